"""Pre-trained weights of libraries: what they are, where they are, and their preprocessing."""
