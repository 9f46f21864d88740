"""The architecture of a model: trace it into a tree of blocks, store the tree as JSON, draw it as SVG."""
