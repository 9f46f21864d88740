"""Data loading.

`sources` lists the images of a path, `cache` stores decoded images, `loader` yields batches, `augment` transforms them.
"""
