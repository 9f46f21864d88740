"""Components of the training loop: optimizers, schedules, precision, memory, processes, training state."""
