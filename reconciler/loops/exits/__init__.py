"""Exits of a home edge: the best gateway of a provider, always, and never a leak."""
