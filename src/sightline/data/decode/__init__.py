"""Decode image files to pixels, and mask files to class indices."""
