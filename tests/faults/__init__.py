"""Faults: what is killed, stopped, cancelled or broken while the farm works."""
