"""What wraps the training step: optimizers, schedules, precision, memory, processes, training state."""
