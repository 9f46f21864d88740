"""Training images of a grid that are copies of the target's validation images: refused, announced or left out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

import sightline
from sightline.config.resolve import resolve, to_yaml
from sightline.errors import SightlineError
from sightline.recipes import load_recipe
from sightline.runs.atomic import atomic_write
from sightline.tasks.files import load_recipe_file
from sightline.transfer.grid import Grid, load_grid_file, resolve_grid
from sightline.transfer.leaks import without_leaks
from transfer_toys import tiny_grid

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture
def target(make_photos: Callable[..., Path], tmp_path: Path) -> Path:
    return make_photos(tmp_path / "target", train=6, val=2)


@pytest.fixture
def leaky(make_photos: Callable[..., Path], target: Path, tmp_path: Path) -> Path:
    """Class folders of other images, with a renamed copy and a darker copy of validation images of the target."""
    root = tmp_path / "leaky"
    for path in sorted(make_photos(tmp_path / "others", train=30, val=1).glob("train/*/*.png")):
        if int(path.stem) >= 20:
            (root / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.parent.name)
    first, second = sorted(target.glob("val/class_0/*.png"))
    Image.open(first).save(root / "class_0/renamed.bmp")
    ImageEnhance.Brightness(Image.open(second)).enhance(0.8).save(root / "class_0/darker.png")
    return root


def grid_on(target: Path, **changes: object) -> Grid:
    values = {f"{stage}.data.path": str(target) for stage in ("full", "frozen")}
    return resolve_grid(tiny_grid(settings=("B", "C"), seeds=(0,)), values | changes)


def test_identical_images_are_refused_with_and_without_labels(target: Path, leaky: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.transfer(
            tiny_grid(), target, labeled=leaky, unlabeled=leaky, settings="BC", out=tmp_path / "g", quiet=True
        )
    for stage in ("labeled", "unlabeled"):
        text = f"1 training image of --{stage} is identical to one of the validation or test images of the target"
        assert text in caught.value.why and f"--{stage}.data.on_copies leave_out" in caught.value.cure
    assert "class_0/renamed.bmp = val/class_0/" in caught.value.why and not (tmp_path / "g").exists()


def test_copies_are_left_out_and_the_runs_record_it(
    target: Path, leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {f"{stage}.{key}": value for stage in ("labeled", "full") for key, value in (("train.epochs", 1),)}
    options |= {"labeled.data.on_copies": "leave_out"}
    folder = tmp_path / "grid"
    sightline.transfer(tiny_grid(), target, labeled=leaky, settings="B", seeds="0", out=folder, **options)
    out = capsys.readouterr().out
    assert (
        "2 training images of --labeled left out: identical (1) or near (1) copies of validation or test images" in out
    )
    assert "2 training images left out: class_0/darker.png, class_0/renamed.bmp" in out
    names = ("class_0/darker.png", "class_0/renamed.bmp")
    run = folder / "pretrain-labeled-0"
    assert load_recipe_file(run / "recipe.yaml").data.leave_out == names
    assert load_grid_file(folder / "grid.yaml").labeled.data.leave_out == names
    assert "renamed.bmp" not in (run / "splits.csv").read_text()
    sightline.evaluate(run, split="train")
    assert "changed" not in capsys.readouterr().out
    sightline.transfer(tiny_grid(), target, labeled=leaky, settings="B", seeds="0", out=folder, **options)
    assert "B-p0-0: done" in capsys.readouterr().out, "a second call leaves out the same images"


def test_with_on_copies_warn_the_grid_is_unchanged(target: Path, leaky: Path) -> None:
    lines: list[str] = []
    grid = grid_on(target, **{"labeled.data.path": str(leaky), "labeled.data.on_copies": "warn", "settings": ("B",)})
    assert without_leaks(grid, lines.append) == grid
    assert [line.partition(" image ")[0] for line in lines] == ["warning: 1 training"] * 2
    assert "renamed.bmp = " in lines[0] and "darker.png ~ " in lines[1]
    assert all("so the accuracies may be too high" in line for line in lines)
    assert lines[1].endswith("to leave them out: --labeled.data.on_copies leave_out")


def test_copies_within_the_target_are_refused_or_left_out_of_all_its_runs(target: Path) -> None:
    first = min(target.glob("val/class_1/*.png"))
    Image.open(first).save(target / "train/class_1/again.bmp")
    grid = grid_on(target, settings=("A",))
    with pytest.raises(SightlineError) as caught:
        without_leaks(grid, print)
    assert "1 training image of the target is identical" in caught.value.why
    options = "--full.data.on_copies leave_out --frozen.data.on_copies leave_out"
    assert options in caught.value.cure
    shutil.copy(first, target / "train/class_1/copied.png")
    modes = {f"{stage}.data.on_copies": "leave_out" for stage in ("full", "frozen")}
    names = ("train/class_1/again.bmp", "train/class_1/copied.png")
    grid = without_leaks(grid_on(target, settings=("A",), **modes), print)
    assert grid.full.data == grid.frozen.data and grid.full.data.leave_out == names
    assert without_leaks(grid, print) == grid


def test_the_images_of_an_earlier_pretraining_are_compared(target: Path, leaky: Path, tmp_path: Path) -> None:
    """They are read from its recipe; they cannot be left out any more."""
    run = tmp_path / "run"
    config = resolve(load_recipe("photos_scratch"), {"data.path": str(leaky), "data.size": 16})
    atomic_write(run / "recipe.yaml", to_yaml(config))
    changes = {"labeled_weights": str(run), "settings": ("B",), "labeled.data.on_copies": "leave_out"}
    with pytest.raises(SightlineError) as caught:
        without_leaks(grid_on(target, **changes), print)
    assert "of --labeled is identical" in caught.value.why and "pre-train again" in caught.value.cure
    shutil.rmtree(leaky)
    lines: list[str] = []
    without_leaks(grid_on(target, **changes), lines.append)
    assert len(lines) == 1 and lines[0].startswith("note: the training images of --labeled were not compared")


def test_images_in_shards_are_not_compared_and_a_note_says_so(target: Path, leaky: Path, tmp_path: Path) -> None:
    packed = sightline.pack(leaky, tmp_path / "packed", quiet=True)
    lines: list[str] = []
    without_leaks(grid_on(target, settings=("B",), **{"labeled.data.path": str(packed)}), lines.append)
    assert lines == [
        "note: the training images of --labeled were not compared with the validation or test images of the target: "
        "images in shards are not compared"
    ]
    with pytest.raises(SightlineError, match="images in shards cannot be left out"):
        grid = grid_on(target, settings=("B",), **{"labeled.data.path": str(packed), "labeled.data.leave_out": ["a"]})
        without_leaks(grid, print)
