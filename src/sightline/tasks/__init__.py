"""Tasks: what is trained, measured and shown."""
