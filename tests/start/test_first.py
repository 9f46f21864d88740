"""The recipe of `sightline train` without one: by the data, and by the weights at hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from multilabel_toys import write_quarters
from sightline import SightlineError
from sightline.models.pretrained import downloads
from sightline.start.first import first_recipe

PALETTE = {"data.palette": "landcover"}


@pytest.fixture
def data(photos: Path, make_scenes: Callable[..., Path], tmp_path: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    write_quarters(tmp_path / "sets")
    return {
        "labels": (photos, {}),
        "label sets": (tmp_path / "sets", {}),
        "masks": (make_scenes(tmp_path / "scenes"), PALETTE),
    }


@pytest.mark.parametrize(
    ("kind", "tuned", "scratch"),
    [
        ("labels", "photos_probe", "objects_fast"),
        ("label sets", "multilabel_probe", "multilabel_scratch"),
        ("masks", "landcover_frozen", "landcover_scratch"),
    ],
)
def test_the_recipe_depends_on_the_weights_at_hand(
    kind: str,
    tuned: str,
    scratch: str,
    data: dict[str, tuple[Path, dict[str, str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    path, settings = data[kind]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(downloads, "hugging_face_cached", lambda weights, name: None)
    assert first_recipe(str(path), settings).name == scratch
    assert "because cannot download the weights tf_efficientnet_lite0" in capsys.readouterr().out
    assert first_recipe(str(path), settings | {"model.weights": "none"}).name == scratch
    assert "because model.weights is none" in capsys.readouterr().out
    monkeypatch.setattr(downloads, "hugging_face_cached", lambda weights, name: tmp_path)
    found = first_recipe(str(path), settings)
    assert found.name == tuned and not found.data.palette, "colors are those of the data"
    assert f"recipe: {tuned}" in capsys.readouterr().out


def test_weights_that_do_not_exist_are_refused_before_the_data_are_opened(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="the weights were not found"):
        first_recipe(str(tmp_path / "nowhere"), {"model.weights": "missing.safetensors"})
