"""The report of a classifier: its table of answers with enough confidence."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from sightline.stats.groups import Groups
from sightline.stats.intervals import mean_interval, wilson_interval
from sightline.tasks.classify.report import abstaining


def rows_of(scores: Any) -> list[list[str]]:
    """The text of the cells of the table, without its head."""
    body = str(abstaining(scores)).partition("<tbody>")[2]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]
    return [row for row in cells if row]


def test_shares_and_accuracies_of_answers_are_counted() -> None:
    confidence = np.repeat([0.45, 0.6, 0.92], [20, 30, 50])
    correct = np.concatenate([np.arange(20) < 8, np.arange(30) < 24, np.arange(50) < 50])
    found = rows_of(SimpleNamespace(confidence=confidence, correct=correct, groups=None))
    assert [[*row[:3], row[4]] for row in found] == [
        ["0%", "100.0", "82.0", "100"],
        ["50%", "80.0", "92.5", "80"],
        ["70%", "50.0", "100.0", "50"],
        ["80%", "50.0", "100.0", "50"],
        ["90%", "50.0", "100.0", "50"],
    ], "nothing has a confidence of 95 %"
    low, high = (f"{100 * edge:.1f}" for edge in wilson_interval(74, 80))
    assert found[1][3] == f"{low} to {high}"


def test_the_intervals_are_over_the_groups_that_are_left() -> None:
    random = np.random.default_rng(0)
    ids = np.repeat(np.arange(15), 8)
    confidence, correct = random.random(120), random.random(120) < 0.8
    scores = SimpleNamespace(confidence=confidence, correct=correct, groups=Groups(ids, "films"))
    kept = confidence >= 0.7
    low, high = mean_interval(correct[kept], np.unique(ids[kept], return_inverse=True)[1])
    assert rows_of(scores)[2][3] == f"{100 * low:.1f} to {100 * high:.1f}"
    scores.confidence = np.where(ids < 5, confidence, 0.0)
    assert rows_of(scores)[2][3] == "too few groups"
