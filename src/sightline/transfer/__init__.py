"""Transfer grids: runs with and without pre-training, compared on the same validation images."""
