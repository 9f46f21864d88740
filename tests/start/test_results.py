"""The step that is used after a start."""

from types import SimpleNamespace
from typing import Any

import pytest

from sightline.start.results import Outcome, highest

STEPS = [Outcome(name, name, True, 1.0) for name in ("constant", "frozen", "finetune")]


@pytest.mark.parametrize(
    ("best", "differences", "used"),
    [
        (0, {"frozen": 0.4, "finetune": 0.3}, 1),  # too few images to show that a step is better than the trivial one
        (0, {"frozen": -0.1, "finetune": 0.0}, 0),
        (1, {"finetune": 0.02}, 1),  # shown to be better than the first, and nothing to be better than it
    ],
)
def test_a_trivial_step_is_used_only_if_no_other_has_a_higher_value(
    best: int, differences: dict[str, float], used: int
) -> None:
    pairs: list[Any] = [
        SimpleNamespace(first=STEPS[best].name, second=name, difference=value) for name, value in differences.items()
    ]
    assert highest(STEPS[best], STEPS, pairs) is STEPS[used]
