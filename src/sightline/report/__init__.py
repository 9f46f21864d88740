"""The report of a run: a pure function of the files in its folder."""
