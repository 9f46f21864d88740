"""Fault-injection harness for developers, not shipped. `python -m reliability` writes docs/reliability.md."""
