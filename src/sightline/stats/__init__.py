"""Metrics, intervals and paired comparisons: pure functions of arrays."""
