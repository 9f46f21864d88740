"""Prediction over many images: inputs, batching, tables, masks, tiles."""
