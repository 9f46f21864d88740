"""The report of a run: a pure function of what lies in its folder."""
