"""`sightline start`: from a folder of images to a first result with its baselines, within a given time."""
