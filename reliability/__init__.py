"""The reliability harness: `python -m reliability`. It puts faults in, counts what came of them and writes
docs/reliability.md. For developers; it isn't shipped."""
