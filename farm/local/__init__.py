"""`farm up`: one command from nothing to a running farm on this host."""
