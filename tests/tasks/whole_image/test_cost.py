"""The estimated time of a training step is the mean over the epochs of a recipe."""

from typing import Any

import pytest

from config_toys import configured
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.errors import SightlineError
from sightline.tasks.whole_image import cost

BASE = {"task": "classify", "model.name": "fastnet", "data.size": 32, "train.epochs": 10}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2.0),
        ({"augment.progressive": [[16, 0.5]]}, 2 * (5 * 0.25 + 5) / 10),
        ({"optim.sam_radius": 0.1, "optim.sam_from": 0.7}, 2 * (7 + 3 * 2) / 10),
    ],
)
def test_small_images_take_less_and_sharpness_aware_steps_twice(
    settings: dict[str, Any], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measured", lambda *arguments: (0.5, 2.0))
    source = open_source(Data(path="sklearn:digits"), 0)
    assert cost.seconds_per_image(configured(BASE | settings), source) == (0.5, pytest.approx(expected, rel=0.02))


def test_a_side_that_the_network_does_not_support_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measured", lambda *arguments: (0.5, 2.0))
    source = open_source(Data(path="sklearn:digits"), 0)
    tiny = {"model.name": "timm/vit_tiny_patch16_224", "model.args": {"depth": 1, "embed_dim": 24, "num_heads": 2}}
    with pytest.raises(SightlineError, match="does not support images of 16 x 16 pixels") as caught:
        cost.seconds_per_image(configured(BASE | tiny | {"augment.progressive": [[16, 0.5]]}), source)
    assert caught.value.where == "augment.progressive"
