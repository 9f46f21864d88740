"""Figures and measures of a trained model, computed from arrays; independent of the training loop and of run
folders."""
