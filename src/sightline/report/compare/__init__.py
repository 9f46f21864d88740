"""Comparison of several runs: paired differences with intervals, recipes, curves and cost."""
