"""What no static file can know. Each loop is a pure `policy.py` and a thin `loop.py` that feeds it."""
