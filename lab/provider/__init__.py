"""Providers of exits for the lab: services that speak PIA's and Mullvad's protocols, and gateways behind them."""
