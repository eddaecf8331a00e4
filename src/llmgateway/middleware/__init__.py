"""ASGI around every request: one class a file, none knows another. Their order is a list in `app.py`."""
