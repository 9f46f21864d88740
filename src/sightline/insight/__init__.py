"""What a model has learned: arrays in, numbers and figures out. Nothing here knows the trainer or a run folder."""
