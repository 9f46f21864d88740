"""WebDataset shards: packing, index, download and streaming."""
