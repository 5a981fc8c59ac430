"""The records against a real Redis."""
