"""Whether the bonds under tunnels work: LACP and carriers, and what the switch makes of tunnels that it sends here."""
