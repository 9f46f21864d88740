"""What `sightline start` refuses, and its cures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline import SightlineError
from sightline.start.plan import require_settings

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.mark.parametrize(
    ("make", "words", "cure"),
    [
        (lambda photos, folder: next((photos / "train").iterdir()), "no labels", "moco_fast"),
        (lambda photos, folder: beside_table(folder), "no labels", "tags.csv; or "),
        (lambda photos, folder: one_class(folder), "only 1 class was found", "--data FOLDER"),
        (lambda photos, folder: numbers(folder), "looks like numbers", "--data.label_column"),
        (lambda photos, folder: folder / "nothing", "not found|no such", "check the path"),
    ],
)
def test_data_without_a_ladder_are_errors(
    make: Callable[[Path, Path], Path], words: str, cure: str, photos: Path, tmp_path: Path
) -> None:
    data = make(photos, tmp_path)
    with pytest.raises(SightlineError, match=words) as caught:
        sightline.start(data, out=tmp_path / "s", quiet=True)
    assert cure in caught.value.cure and caught.value.cure


def one_class(folder: Path) -> Path:
    from PIL import Image

    for index in range(12):
        path = folder / "data" / "cat" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (index, 0, 0)).save(path)
    return folder / "data"


def beside_table(folder: Path) -> Path:
    images = one_class(folder) / "cat"
    rows = "".join(f"{index}.png,{'cat;dog' if index % 2 else 'dog'}\n" for index in range(12))
    (images.parent / "tags.csv").write_text("photo,tags\n" + rows)
    return images


def numbers(folder: Path) -> Path:
    from PIL import Image

    folder = folder / "numbers"
    folder.mkdir()
    rows = ["filename,label"]
    for index in range(12):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{index + 0.5}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.usefixtures("toy_ladder")
def test_a_folder_with_other_content_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.start(photos, weights="none", out=tmp_path / "own", quiet=True)
    sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True)
    with pytest.raises(SightlineError, match="other settings") as caught:
        sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True, **{"train.seed": 1})
    assert "train.seed" in caught.value.why
    sightline.start(photos, weights="none", out=tmp_path / "s", overwrite=True, quiet=True, **{"train.seed": 1})
    assert "seed: 1" in (tmp_path / "s/scratch/recipe.yaml").read_text()


def test_the_network_is_named_by_the_option_of_this_command(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.start(photos, out=tmp_path / "s", quiet=True, **{"model.name": "resnet18"})
    assert "--model resnet18" in caught.value.cure and not (tmp_path / "s").exists()


@pytest.mark.parametrize("setting", [{"train.best_metric": "accuracy"}, {"train.patience": 3}])
def test_settings_by_which_validation_images_choose_are_errors(
    photos: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(SightlineError, match="not possible in a start") as caught:
        sightline.start(photos, out=tmp_path / "s", weights="none", quiet=True, **setting)
    assert "sightline train photos_finetune" in caught.value.cure and not (tmp_path / "s").exists()
    require_settings({"train.best_metric": "epoch", "train.patience": 0})
    require_settings({"train.patience": "0"})  # as on the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "missing.safetensors"}, "the weights were not found"),
        ({"model": "timm/no_such_network"}, "unknown model"),
        ({"model": "small_cnn"}, "no pre-trained weights for small_cnn"),
    ],
)
def test_weights_that_do_not_exist_are_refused_before_the_data_are_opened(
    options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SightlineError, match=words) as caught:
        sightline.start(tmp_path / "nowhere", **options, out=tmp_path / "s", quiet=True)
    assert caught.value.cure and not (tmp_path / "s").exists()


@pytest.mark.parametrize("key", ["train.epoch", "trian.epochs", "epochs"])
def test_unknown_settings_are_refused_before_the_weights_are_looked_up(key: str, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=f"no setting '{key}'") as caught:
        sightline.start(tmp_path / "none", weights=str(tmp_path / "none.pt"), **{key: 3})
    assert "train.epochs" in caught.value.cure


def test_no_time_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.start(tmp_path / "nowhere", minutes=0, quiet=True)
    assert caught.value.what == "minutes is 0" and "--minutes 10" in caught.value.cure
    with pytest.raises(SightlineError, match="minutes is inf"):
        sightline.start(tmp_path / "nowhere", minutes=float("inf"), quiet=True)
