"""The claims of all pages and commands, by area. Each row simulates data whose truth is known, and calls the functions
of `sightline` that make the claim."""

from . import calibration, classes, comparisons, doctor, folds, groups, hints, intervals, ladder, mask_grids, ranking

CLAIMS = (
    *intervals.CLAIMS,
    *ranking.CLAIMS,
    *groups.CLAIMS,
    *comparisons.CLAIMS,
    *mask_grids.CLAIMS,
    *classes.CLAIMS,
    *folds.CLAIMS,
    *ladder.CLAIMS,
    *calibration.CLAIMS,
    *hints.CLAIMS,
    *doctor.CLAIMS,
)
