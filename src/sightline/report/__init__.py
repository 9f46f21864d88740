"""The report of a run: an HTML page with figures, computed only from the files in the run folder."""
