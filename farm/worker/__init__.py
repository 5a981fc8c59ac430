"""What a worker process does with a bell: claim a stage, do it under its keeper, settle it, ring on."""
