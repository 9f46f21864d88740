"""Masks over the epochs in a real browser: every pixel belongs to the selected view, epoch and image."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline.config.schema import Config

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
expect = sync_api.expect
GRAY, ORANGE = (198, 202, 207), (224, 102, 16)


@pytest.fixture(scope="module")
def run(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> sightline.Run:
    folder = tmp_path_factory.mktemp("film")
    data = make_scenes(folder / "scenes", train=4, val=2)
    for path in (data / "validation").glob("*_mask.png"):  # ignore a corner of each
        mask = np.array(Image.open(path))
        mask[-6:, -9:] = 0
        Image.fromarray(mask).save(path)
    return sightline.train(toy(**{"train.epochs": 3}), data, out=folder / "run", quiet=True)


def decoded(source: str) -> np.ndarray:
    """The pixels of a data: URL."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def film_of(page: "Page") -> dict:
    """The JSON block of the film."""
    return json.loads(page.locator("#film-data").text_content() or "")


def painted(film: dict, mask: np.ndarray) -> np.ndarray:
    """A mask in the colors of its classes, gray at ignored pixels."""
    palette = np.full((256, 3), GRAY)
    palette[: len(film["colors"])] = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in film["colors"]]
    return palette[mask]


def shown(page: "Page", words: str) -> np.ndarray:
    """The pixels int64 [h, w, 3] of the canvas, once its label matches `words`."""
    canvas = page.locator("canvas.film")
    expect(canvas).to_have_attribute("aria-label", re.compile(words))
    height, width = canvas.evaluate("c => [c.height, c.width]")
    read = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return np.array(canvas.evaluate(read)).reshape(height, width, 4)[..., :3]


def press(page: "Page", side: str, view: str) -> None:
    page.get_by_role("group", name=f"{side} of the divider").get_by_role("button", name=view).click()


def test_the_divider_and_the_slider_over_the_epochs(run: sightline.Run, open_page) -> None:
    page = open_page(run.report)
    canvas = page.locator("canvas.film")
    expect(canvas).to_have_attribute(
        "aria-label", re.compile("Truth and Prediction, left and right of the divider, after epoch 3")
    )
    pixel = "(c, x) => Array.from(c.getContext('2d').getImageData(x, 3, 1, 1).data)"
    truth = np.load(run.path / "snapshots" / "samples.npz")["labels"]
    film = json.loads(page.locator("#film-data").text_content() or "")
    names = [str(name) for name in np.load(run.path / "snapshots" / "samples.npz")["names"]]
    row = names.index(film["images"][len(film["images"]) // 2]["name"])
    label = int(truth[row][3, 1])
    color = [198, 202, 207] if label == 255 else [int(film["colors"][label][at : at + 2], 16) for at in (1, 3, 5)]
    assert canvas.evaluate(pixel, 1)[:3] == color
    assert "Epoch 3" in page.locator(".film .numbers").first.inner_text()
    page.locator(".film .time input").fill("0")
    expect(page.locator(".film .numbers").first).to_contain_text("Epoch 1")
    page.get_by_role("slider", name="Divider").fill("100")
    page.get_by_role("group", name="Left of the divider").get_by_role("button", name="Image").click()
    expect(canvas).to_have_attribute(
        "aria-label", re.compile("Image and Prediction, left and right of the divider, after epoch 1")
    )
    image = np.load(run.path / "snapshots" / "samples.npz")["images"][row][:, 3, 1]
    assert np.abs(np.array(canvas.evaluate(pixel, 1)[:3]) - image.astype(int)).max() < 40


def test_each_half_has_its_view_at_the_displayed_epoch(run: sightline.Run, open_page) -> None:
    page = open_page(run.report)
    film = film_of(page)
    one = film["images"][len(film["images"]) // 2]
    truth, first, last = decoded(one["truth"]), decoded(one["masks"][0]), decoded(one["masks"][2])
    half, width = truth.shape[1] // 2, truth.shape[1]
    for columns in (slice(0, half), slice(half, width)):
        assert (truth != last)[:, columns].any() and (first != last)[:, columns].any(), "the test would prove nothing"
    found = shown(page, "Truth and Prediction, left and right of the divider, after epoch 3")
    assert (found[:, :half] == painted(film, truth)[:, :half]).all()
    assert (found[:, half:] == painted(film, last)[:, half:]).all()
    page.locator(".film .time input").fill("0")
    found = shown(page, "Truth and Prediction, left and right of the divider, after epoch 1")
    assert (found[:, :half] == painted(film, truth)[:, :half]).all()
    assert (found[:, half:] == painted(film, first)[:, half:]).all()
    assert one["scores"][0] != one["scores"][2]
    expect(page.locator(".film .numbers").first).to_contain_text(f"Epoch 1 {one['scores'][0]}, {one['name']}")


def test_an_overlay_is_half_the_image_and_errors_are_where_the_truth_differs(run: sightline.Run, open_page) -> None:
    page = open_page(run.report)
    film = film_of(page)
    for index, one in enumerate(film["images"]):
        page.locator(".film .reel button").nth(index).click()
        truth, last = decoded(one["truth"]), decoded(one["masks"][2])
        press(page, "Left", "Image")
        page.get_by_role("slider", name="Divider").fill("100")
        image = shown(page, f"{one['name']}: Image and")
        assert np.abs(image - decoded(one["image"]).astype(int)).mean() < 3
        press(page, "Left", "Overlay")
        overlay = shown(page, f"{one['name']}: Overlay and")
        assert np.abs(overlay - (image + painted(film, last)) / 2).max() <= 1
        press(page, "Left", "Errors")
        errors = shown(page, f"{one['name']}: Errors and")
        wrong, ignored = (truth != last) & (truth != 255), truth == 255
        assert ((errors == ORANGE).all(2) == wrong).all() and wrong.any()
        assert (errors[ignored] == GRAY).all() and (~wrong & ~ignored).any()
    assert any((decoded(one["truth"]) == 255).any() for one in film["images"]), "the test would prove nothing"


def test_the_pointer_shows_the_classes_and_drags_the_divider(run: sightline.Run, open_page) -> None:
    page = open_page(run.report)
    film = film_of(page)
    one = film["images"][len(film["images"]) // 2]
    truth, last = decoded(one["truth"]), decoded(one["masks"][2])
    shown(page, "Truth and Prediction, left and right of the divider, after epoch 3")
    canvas = page.locator("canvas.film")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    different = (truth != last) & (truth != 255) & (truth != truth.T) & (np.arange(truth.shape[1]) < 12)
    row, column = np.argwhere(different)[0]
    x = box["x"] + (column + 0.5) / truth.shape[1] * box["width"]
    y = box["y"] + (row + 0.5) / truth.shape[0] * box["height"]
    page.mouse.move(x, y)
    words = (
        f"At the pointer: truth {film['classes'][truth[row, column]]}, prediction {film['classes'][last[row, column]]}"
    )
    expect(page.locator(".film .numbers").last).to_have_text(words)
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 5)
    page.mouse.down()
    page.mouse.up()
    assert page.get_by_role("slider", name="Divider").input_value() == "25"


def test_no_colors_are_offered_for_more_classes_than_the_page_has_colors(
    run: sightline.Run, open_page, tmp_path: Path
) -> None:
    text = run.report.read_text()
    block = re.search(r'(?<=id="film-data">).*?(?=</script>)', text, re.DOTALL)
    assert block
    film = json.loads(block[0])
    (tmp_path / "many.html").write_text(text.replace(block[0], json.dumps(film | {"distinct": []})))
    page = open_page(tmp_path / "many.html")
    expect(page.locator("canvas.film")).to_be_visible()
    assert page.get_by_role("group", name="Colors of the classes").count() == 0


def test_the_classes_can_have_the_colors_of_the_page(run: sightline.Run, open_page) -> None:
    page = open_page(run.report)
    film = film_of(page)
    truth = decoded(film["images"][len(film["images"]) // 2]["truth"])
    half = truth.shape[1] // 2
    assert film["distinct"] != film["colors"]
    page.get_by_role("group", name="Colors of the classes").get_by_role("button", name="Color-blind safe").click()
    found = shown(page, "Truth and Prediction")
    assert (found[:, :half] == painted(film | {"colors": film["distinct"]}, truth)[:, :half]).all()
    dot = page.locator(".legend .dot.square").first.evaluate("dot => dot.style.background")
    red, green, blue = (int(film["distinct"][0][at : at + 2], 16) for at in (1, 3, 5))
    assert dot == f"rgb({red}, {green}, {blue})"
