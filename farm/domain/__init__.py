"""Values and rules of the farm. No I/O, and nothing of the farm is imported here."""
