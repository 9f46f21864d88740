"""Batched augmentation: random numbers per image, geometry, color, policies, training windows."""
