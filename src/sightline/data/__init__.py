"""From a path to batches: `sources` recognizes layouts, `cache` decodes once, `loader` orders, `augment` varies."""
