"""Which tunnels of a link are alive, by a probe inside each."""
