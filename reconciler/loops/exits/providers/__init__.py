"""Providers of exits. Each is a small adapter that is pure except for the effects passed to it (`base.py`)."""
