"""Transfer grids: does pre-training pay?"""
