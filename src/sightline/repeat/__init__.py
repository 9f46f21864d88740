"""`sightline repeat`: train a recipe several times, with several seeds or on the folds of the data, and report how much
its metric varies."""
