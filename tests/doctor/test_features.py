"""With the features of a network, `sightline doctor` finds wrong labels, crops and mirror images."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline
from config_toys import configured
from sightline.__main__ import run
from sightline.data.near import SIDE, Searched, best_crop
from sightline.doctor import features
from sightline.doctor.features import similar_pairs
from sightline.errors import SightlineError

pytestmark = pytest.mark.usefixtures("no_reports")

FROZEN = {
    "task": "classify",
    "data.size": 32,
    "model.name": "small_cnn",
    "model.args": {"widths": [8, 16]},
    "model.freeze": True,
    "optim.name": "lbfgs",
    "train.epochs": 1,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
    "report.baselines": False,
}


def scene(number: int, label: int = 0) -> Image.Image:
    """A smooth random image of 48 x 48 pixels; its mean color depends on the label."""
    coarse = np.random.default_rng(number).integers(0, 150, (6, 6, 3))
    coarse[..., label % 3] += 100
    return Image.fromarray(coarse.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes in train/ and val/: two with wrong labels, a crop, a mirror image, a resized copy."""
    root = tmp_path_factory.mktemp("planted")
    for split, first, count in (("train", 0, 12), ("val", 500, 4)):
        for label in range(3):
            (root / split / f"class_{label}").mkdir(parents=True)
            for number in range(first, first + count):
                scene(1000 * label + number, label).save(root / split / f"class_{label}/{number}.png")
    scene(7001, 0).save(root / "train/class_1/wrong.png")
    scene(7002, 2).save(root / "val/class_0/wrong.png")
    scene(3).crop((5, 2, 40, 37)).save(root / "train/class_0/crop.png")
    mirrored(scene(1004, 1)).save(root / "val/class_1/mirror.png")
    scene(2005, 2).resize((30, 30), Image.Resampling.BICUBIC).save(root / "train/class_2/small.png")
    return root


@pytest.fixture(scope="module")
def trained(planted: Path, tmp_path_factory: pytest.TempPathFactory, no_reports: None) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return sightline.train(configured(FROZEN), planted, out=folder, quiet=True).path


@pytest.fixture
def many_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare half of all pairs of images: the features of the random network of these tests are poor."""
    monkeypatch.setattr(features, "NEIGHBORS", 30)
    monkeypatch.setattr(features, "SIMILAR", 0.1)


@pytest.fixture
def no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for no crops and mirror images, which takes most of the time."""
    monkeypatch.setattr(features, "SIMILAR", 2.0)


def kinds(data: Path, out: Path, **options: Any) -> dict[str, list[tuple[str, ...]]]:
    """The files of each group of each kind of finding."""
    found = sightline.doctor(data, out=out, quiet=True, **options)
    return {one.kind: [group.files for group in one.groups] for one in found.findings}


@pytest.mark.usefixtures("many_neighbors")
def test_wrong_labels_crops_and_mirror_images_are_found(planted: Path, trained: Path, tmp_path: Path) -> None:
    plain = kinds(planted, tmp_path / "plain")
    assert {*plain} == {"near_duplicate"}, "without features, only the resized copy is found"
    found = kinds(planted, tmp_path / "out", weights=trained)
    assert {*found} == {"near_duplicate", "altered_leak", "altered_duplicate", "suspicious_label"}
    assert found["near_duplicate"] == plain["near_duplicate"]
    assert found["altered_leak"] == [("train/class_1/4.png", "val/class_1/mirror.png")]
    assert found["altered_duplicate"] == [("train/class_0/3.png", "train/class_0/crop.png")]
    assert {*found["suspicious_label"]} == {("train/class_1/wrong.png",), ("val/class_0/wrong.png",)}


@pytest.mark.usefixtures("no_pairs")
def test_features_are_those_of_the_run_from_the_cache(
    planted: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    sightline.train(configured(FROZEN | {"data.cache_dir": str(cache)}), planted, out=tmp_path / "run", quiet=True)
    stored = {path: path.stat().st_mtime_ns for path in cache.glob("features-*/*")}
    settings: dict[str, Any] = {"data.cache_dir": str(cache), "out": tmp_path / "out", "weights": tmp_path / "run"}
    sightline.doctor(planted, **settings)
    assert capsys.readouterr().out.count("from the cache") == 2
    assert {path: path.stat().st_mtime_ns for path in cache.glob("features-*/*")} == stored


@pytest.mark.usefixtures("many_neighbors")
def test_unreadable_unlabeled_and_tagged_images(planted: Path, trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(planted / "train", data, ignore=shutil.ignore_patterns("1?.png", "8.png", "9.png"))
    (data / "class_0/broken.png").write_bytes(b"broken")
    found = kinds(data, tmp_path / "out", weights=trained)
    assert found["unreadable"] == [("class_0/broken.png",)] and "altered_duplicate" in found
    names = ["class_0/3.png", "class_0/crop.png", *(f"class_{label}/{n}.png" for label in range(3) for n in (6, 7))]
    rows = "".join(f"{name},{'a b' if number % 2 else 'a'}\n" for number, name in enumerate(names))
    (data / "tags.csv").write_text("filename,labels\n" + rows)
    tagged = kinds(data / "tags.csv", tmp_path / "tags", weights=trained)
    assert tagged["altered_duplicate"] == [("class_0/3.png", "class_0/crop.png")]
    assert "suspicious_label" not in tagged


def test_mistakes_in_the_options_are_errors(
    planted: Path, trained: Path, tmp_path: Path, make_scenes: Callable[..., Path]
) -> None:
    cases: tuple[tuple[Path, dict[str, Any], str], ...] = (
        (planted, {"model": "timm/tf_efficientnet_lite0"}, "--model needs --weights"),
        (trained, {"weights": trained}, "not of a run"),
        (planted, {"weights": tmp_path / "missing.safetensors"}, "missing.safetensors"),
        (make_scenes(tmp_path / "land"), {"weights": trained, "data.palette": "landcover"}, "does not apply"),
    )
    for data, options, what in cases:
        with pytest.raises(SightlineError, match=what):
            sightline.doctor(data, out=tmp_path / "out", quiet=True, **options)


@pytest.mark.usefixtures("no_pairs")
def test_the_command_takes_weights(planted: Path, trained: Path, tmp_path: Path) -> None:
    arguments = ["doctor", str(planted), "--weights", str(trained), "--out", str(tmp_path / "out"), "--quiet"]
    assert run(arguments) == 5
    assert "labels that may be wrong" in (tmp_path / "out/doctor.html").read_text()


def test_a_crop_is_similar_and_another_image_is_not() -> None:
    image = scene(3)
    whole = Searched.of(pixels(image))
    for part in (image.crop((5, 2, 40, 37)), mirrored(image.crop((0, 0, 30, 30))), mirrored(image)):
        assert min(best_crop(whole, Searched.of(pixels(part)))) > 0.9
    assert best_crop(whole, Searched.of(pixels(scene(4))))[0] < 0.9


def test_similar_pairs_are_those_of_all_cosines() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 5
    centered = vectors - vectors.mean(0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, 1)
    expected = np.argwhere(cosines >= 0.9)
    expected = expected[np.argsort(-cosines[tuple(expected.T)])]
    assert similar_pairs(vectors, 59, 0.9).tolist() == expected.tolist()
    assert similar_pairs(vectors[:1], 5, 0.5).shape == (0, 2)
