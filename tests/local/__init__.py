"""`farm up`, as its user sees it."""
