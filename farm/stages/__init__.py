"""What one stage does, given folders: export, reference, compile, run, compare."""
