"""Where exits come from. Each provider is a small adapter that is pure but for the effects it is handed (`base.py`)."""
