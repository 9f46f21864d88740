"""Self-supervised pre-training: a backbone without labels."""
