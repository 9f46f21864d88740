"""Networks of the segmentation models in `models/segmenters.py`."""
