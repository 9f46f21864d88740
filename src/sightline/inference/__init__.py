"""Prediction of many images: inputs, batches, tables, tiles of large images."""
