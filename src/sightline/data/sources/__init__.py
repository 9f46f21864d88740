"""Where images and labels come from: layouts, tables, pairs, splits, leakage."""
