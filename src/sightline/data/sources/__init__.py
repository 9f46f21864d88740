"""Sources of images and labels: folder layouts, tables, image-mask pairs, splits, leakage checks."""
