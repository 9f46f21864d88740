"""The run folder: atomic files, checkpoints, log, lock, provenance."""
