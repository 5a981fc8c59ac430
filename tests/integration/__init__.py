"""The whole farm as its users start it: real processes, a real Redis, emulated cards."""
