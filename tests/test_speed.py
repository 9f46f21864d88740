"""Speed of training relative to a plain PyTorch loop, measured in pairs so that other load has little effect."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ALLOWED = 0.9  # of the recorded ratio
ATTEMPTS = 3


@pytest.fixture(scope="module")
def warm_epoch() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("warm_epoch")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("name", ["classify", "byol"])
def test_speed_relative_to_a_plain_loop_has_not_decreased(
    warm_epoch: Any, name: str, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos(tmp_path / "photos", train=64, val=2, size=32)
    recorded = json.loads((BENCHMARKS / "ratios.json").read_text())["ratios"][name]
    best = 0.0
    for _ in range(ATTEMPTS):  # other load on the machine rarely affects all attempts
        best = max(best, warm_epoch.ratio(warm_epoch.time_steps(warm_epoch.SMALL[name], str(photos), 16)))
        if best >= ALLOWED * recorded:
            return
    pytest.fail(f"{name}: {best:.3f} of the images/s of a plain loop; {recorded:.3f} was recorded")
