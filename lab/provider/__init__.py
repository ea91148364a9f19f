"""Simulated providers of exits: services that speak the protocols of PIA and Mullvad, and the gateways behind them."""
