"""A loaded classifier predicts the same as `sightline predict`, for every kind of image."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.inference import loaded as loading
from sightline.inference.loaded import LoadedPredictor
from sightline.runs.csv_io import class_columns

pytestmark = pytest.mark.usefixtures("no_reports")


def train(settings: dict, photos: Path, out: Path) -> sightline.Run:
    return sightline.train(configured(settings | {"report.samples": 0}), photos, out=out, quiet=True)


@pytest.fixture(scope="module")
def run(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    settings = {"train.flip_test": True, "data.fit": "crop"}
    return train(tiny | settings, photos, tmp_path_factory.mktemp("loaded") / "run")


@pytest.fixture(scope="module")
def model(run: sightline.Run) -> Any:
    return sightline.load(run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that must be rotated and resized: 40 x 28 pixels, and one of the size of the model."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (28, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png", exif=exif)
    Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "fits.png")
    Image.fromarray(random.integers(0, 256, (28, 40, 3), dtype=np.uint8)).save(folder / "photo.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def table(run: sightline.Run, folder: Path) -> dict[str, dict[str, str]]:
    out = folder.parent / "table.csv"
    with open(sightline.predict(run, folder, out=out, features=True, quiet=True), newline="", encoding="utf-8") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def kinds(path: Path) -> Iterator[Any]:
    """One image as a path, a PIL image, an array and a tensor."""
    yield from (path, str(path), Image.open(path))
    with Image.open(path) as image:
        image.load()
        array = np.rot90(np.asarray(image), -1) if image.getexif() else np.asarray(image)
        yield from (array, array / 255, torch.from_numpy(array.copy()).permute(2, 0, 1))


@pytest.mark.parametrize("name", ["0.png", "fits.png", "photo.jpg"])
def test_every_kind_of_image_has_the_probabilities_of_the_table(
    model: LoadedPredictor, table: dict[str, dict[str, str]], folder: Path, name: str
) -> None:
    row = table[name]
    expected = [float(row[header]) for header in class_columns(model.classes)]
    for image in kinds(folder / name):
        found: Any = model.predict(image)
        assert (found.label, found.confidence) == (row["label"], pytest.approx(float(row["confidence"]), abs=1e-6))
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert (
        found.probabilities.dtype == np.float32
        and len(expected) == 4
        and model.classes[found.probabilities.argmax()] == row["label"]
    )


def test_several_images_are_a_list_in_order(
    model: LoadedPredictor, folder: Path, table: dict, monkeypatch: Any
) -> None:
    monkeypatch.setattr(loading, "batch_size", lambda *arguments: 2)
    assert [len(batch.images) for batch in model.batches(folder, model.predictor)] == [2, 2, 2]
    found: Any = model.predict(folder)
    assert [(each.name, each.label) for each in found] == [(name, row["label"]) for name, row in table.items()]
    files = sorted(folder.iterdir())
    again: Any = model.predict(Image.open(path) for path in files)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
    assert [each.name for each in again][:2] == ["images[0]", "images[1]"]
    assert len(model.predict(np.zeros((5, 20, 30, 3), np.uint8))) == 5
    assert len(model.predict([folder / "0.png"])) == 1
    assert "probabilities" not in repr(found[0])


def test_the_same_lazy_image_many_times(model: LoadedPredictor, folder: Path, tmp_path: Path) -> None:
    """The threads that decode a batch share the image."""
    with Image.open(folder / "photo.jpg") as image:
        image.resize((1600, 1200)).save(tmp_path / "large.jpg", exif=image.getexif())
    expected: Any = model.predict(Image.open(tmp_path / "large.jpg"))
    for found in model.predict([Image.open(tmp_path / "large.jpg")] * 32):  # ty: ignore[not-iterable]
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


def test_features_equal_those_of_the_command(
    model: LoadedPredictor, folder: Path, table: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.load(folder.parent / "table.features.npy")
    monkeypatch.setattr(loading, "batch_size", lambda *arguments: 4)
    with monkeypatch.context() as patch:
        patch.setattr(model.model.head, "forward", None)  # not needed
        found = model.features(folder)
    atol = 1e-5 * np.abs(expected).max()  # the sums of a batch of another size are rounded differently
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)
    assert found.dtype == np.float32 and len(table) == len(found)
    for index, name in enumerate(table):
        np.testing.assert_allclose(model.features(folder / name), expected[index], rtol=1e-4, atol=atol)


def test_the_network_with_the_transform_agrees_with_predict(
    run: sightline.Run, photos: Path, tiny: dict, folder: Path, tmp_path: Path
) -> None:
    model: Any = sightline.load(train(tiny | {"train.epochs": 1}, photos, tmp_path / "run"))
    assert not model.model.training
    for image in [*kinds(folder / "1.png"), folder / "fits.png"]:
        inputs = model.transform(image)
        assert inputs.shape == (3, 16, 16) and inputs.dtype == torch.float32
        logits = model.model(inputs[None])
        logits.sum().backward()  # not an inference tensor
        probabilities = logits.detach().softmax(1)[0].cpu().numpy()
        np.testing.assert_allclose(probabilities, model.predict(image).probabilities, atol=1e-6)


def test_a_class_map_has_the_size_of_the_image(model: LoadedPredictor, folder: Path) -> None:
    """The image is 28 pixels wide and 40 high, of which the network sees the square in the middle."""
    predicted = model.predict(folder / "0.png").label
    found = {name: model.class_map(folder / "0.png", name) for name in model.classes}
    assert all(values.shape == (40, 28) and values.dtype == np.float32 for values in found.values())
    assert not any(values[:6].any() or values[34:].any() for values in found.values()), "not seen"
    assert max(values.max() for values in found.values()) == 1 and min(values.min() for values in found.values()) == 0
    np.testing.assert_array_equal(model.class_map(folder / "0.png"), found[predicted])
    assert len({values.tobytes() for values in found.values()}) > 2, "each class has its own, or none"
    with pytest.raises(SightlineError, match="there is no class") as caught:
        model.class_map(folder / "0.png", model.classes[0] + "s")
    assert model.classes[0] in caught.value.cure
    with pytest.raises(SightlineError, match="one image"):
        model.class_map([folder / "0.png"])


def test_a_class_map_covers_what_the_network_sees(model: LoadedPredictor, folder: Path) -> None:
    """With data.eval_crop, images of exactly data.size x data.size are not cropped, and those of the size of the stored
    images are cropped without data.fit."""
    square = replace(model.predictor.square, share=0.5)
    cropped = replace(model, predictor=replace(model.predictor, square=square))
    np.testing.assert_array_equal(cropped.class_map(folder / "fits.png"), model.class_map(folder / "fits.png"))
    assert cropped.predictor.seen(16, 16) == (0, 0, 16, 16)
    assert cropped.predictor.seen(28, 40) == (7, 13, 21, 27)
    assert replace(cropped.predictor, decoded_size=(40, 28)).seen(28, 40) == (7, 10, 21, 30)


def test_transform_takes_one_image(model: LoadedPredictor, folder: Path) -> None:
    with pytest.raises(SightlineError, match="takes one image") as caught:
        model.transform([folder / "0.png"])
    assert "torch.stack" in caught.value.cure


def test_an_unusable_image_is_one_error_with_its_name(model: LoadedPredictor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    good = np.zeros((20, 20, 3), np.uint8)
    cases: list[tuple[Any, str]] = [
        ([good, good, np.zeros((20, 20, 3), np.int64)], "images[2]"),
        ([good] * 40 + [None], "images[40]"),
        (good.astype(np.int64), "image"),
        ([folder / "0.png", tmp_path / "broken.png"], str(tmp_path / "broken.png")),
        (tmp_path, str(tmp_path / "broken.png")),
        ([tmp_path / "missing.png"], str(tmp_path / "missing.png")),
        (tmp_path / "missing.png", str(tmp_path / "missing.png")),
        ([folder], str(folder)),
        ([], "images"),
    ]
    for images, where in cases:
        for function in (model.predict, model.features):
            with pytest.raises(SightlineError) as caught:
                function(images)
            assert caught.value.where == where and caught.value.cure, str(caught.value)


def test_an_ensemble_predicts_but_is_not_one_network(photos: Path, tiny: dict, folder: Path, tmp_path: Path) -> None:
    model: Any = sightline.load(train(tiny | {"train.ensemble": 2}, photos, tmp_path / "run"))
    path = sightline.predict(tmp_path / "run", folder / "0.png", out=tmp_path / "p.csv", quiet=True)
    with open(path, newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    found = model.predict(folder / "0.png")
    assert len(model.predictor.models) == 2 and found.confidence == pytest.approx(float(row["confidence"]), abs=1e-6)
    for use in (lambda: model.model, lambda: model.features(folder)):
        with pytest.raises(SightlineError, match="ensemble") as caught:
            use()
        assert "loaded.predictor.models" in caught.value.cure


def test_the_representation_is_one_line(model: LoadedPredictor, run: sightline.Run) -> None:
    assert repr(model) == f"<sightline model small_cnn, 4 classes, 16 px, {run.path}>"
