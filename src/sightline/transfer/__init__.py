"""Transfer grids: runs on one data set with and without pre-training, compared on the same validation images."""
