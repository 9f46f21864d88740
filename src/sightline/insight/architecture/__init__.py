"""The architecture of a model: traced into a tree of blocks, kept as a file, drawn for a paper."""
