"""Comparison of several runs: paired differences with intervals, settings that differ, curves and training cost."""
