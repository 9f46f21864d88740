"""WebDataset shards: index, download, streaming, packing."""
