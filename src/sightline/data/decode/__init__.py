"""Files to pixels and masks."""
