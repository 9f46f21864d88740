"""The page in a real browser: input by click, drop, paste and camera; predictions, divider, errors."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from accessibility import violations
from sightline.serve.models import ServedClassifier, ServedSegmenter

from .conftest import pages_of, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
expect = sync_api.expect
NAME = "<img src=x onerror=alert(1)>"

DROP = """([text, type]) => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], 'given.png', { type: 'image/png' }));
    const event = type === 'paste'
        ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true })
        : new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.querySelector('main').dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def url(classifier: ServedClassifier, segmenter: ServedSegmenter) -> Iterator[str]:
    """A server of a classifier whose first class is named as markup, and a segmenter."""
    assert classifier.neighbors is not None
    classes = (NAME, *classifier.classes[1:])
    neighbors = replace(classifier.neighbors, train=replace(classifier.neighbors.train, classes=classes))
    named = replace(classifier, classes=classes, neighbors=neighbors)
    with served([named, segmenter]) as client:
        yield str(client.base_url)


@pytest.fixture
def opened(browser: "Browser", url: str) -> Iterator[Callable[..., "Page"]]:
    """opened(width, **options): the page; errors and requests to other hosts fail the test."""
    with pages_of(browser, url) as open_page:
        yield open_page


def image_file(photos: Path, label: int = 0) -> Path:
    return sorted((photos / "val" / f"class_{label}").glob("*.png"))[0]


def test_both_models_predict_a_chosen_image(opened: Callable[..., "Page"], photos: Path) -> None:
    page = opened()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files(image_file(photos))
    first = page.get_by_role("region", name="corners")
    expect(first.locator(".predicted strong")).to_have_count(1)
    assert first.locator(".bars li:visible").count() == 4
    shares = [float(text.rstrip("%")) for text in first.locator(".share").all_text_contents()]
    widths = first.locator(".bar").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    rail = first.locator(".rail").first.evaluate("one => one.getBoundingClientRect().width")
    assert np.allclose(np.array(widths) / rail * 100, shares, atol=1)
    expect(first.locator(".near img")).to_have_count(8)
    assert first.locator(".near img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 16
    expect(page.get_by_role("region", name="fields").locator("canvas")).to_have_count(1)
    expect(page.locator(".preview img")).to_have_attribute("alt", image_file(photos).name)
    assert page.locator("img[src=x]").count() == 0, "a name became markup"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_can_be_dropped_or_pasted(opened: Callable[..., "Page"], photos: Path, event: str) -> None:
    page = opened()
    text = base64.b64encode(image_file(photos, 1).read_bytes()).decode("ascii")
    if event == "drop":
        page.evaluate(DROP, [text, "dragenter"])
        assert page.locator(".dropzone.over").count() == 1
    page.evaluate(DROP, [text, event])
    expect(page.get_by_role("region", name="corners").locator(".predicted")).to_be_visible()
    assert page.locator(".dropzone.over").count() == 0
    expect(page.locator(".numbers").first).to_contain_text("16 x 16 pixels")


def test_a_photo_by_the_camera(opened: Callable[..., "Page"]) -> None:
    page = opened(permissions=["camera"])
    page.evaluate(
        """() => {
            const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
            const paint = () => canvas.getContext('2d').fillRect(0, 0, 320, 240);
            paint(); setInterval(paint, 50);
            navigator.mediaDevices.getUserMedia = async () => (window.stream = canvas.captureStream());
        }"""
    )
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator("video")).to_have_js_property("videoWidth", 320)
    page.get_by_role("button", name="Take the photo").click()
    expect(page.locator(".numbers").first).to_contain_text("photo, 320 x 240 pixels")
    assert page.locator("dialog").count() == 0
    assert page.evaluate("window.stream.getTracks().every(track => track.readyState === 'ended')")
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("dialog").count() == 0


def test_a_missing_camera_is_reported(opened: Callable[..., "Page"]) -> None:
    page = opened()
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('none') }; }")
    page.get_by_role("button", name="Take a photo").click()
    expect(page.locator(".numbers").first).to_contain_text("No camera")


def test_an_example_shows_its_true_class_and_can_be_chosen_by_keyboard(opened: Callable[..., "Page"]) -> None:
    page = opened()
    group = page.get_by_role("group", name="Validation images")
    assert group.get_by_role("button").count() == 8
    group.get_by_role("button").nth(3).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".numbers").first).to_contain_text("true class")
    expect(page.get_by_role("region", name="corners").locator(".predicted")).to_be_visible()


def colors_of(page: "Page", points: list[tuple[int, int]]) -> np.ndarray:
    """Colors [N, 3] of the segmenter's canvas."""
    read = """(canvas, points) => points.map(([x, y]) =>
        Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3)))"""
    return np.array(page.get_by_role("region", name="fields").locator("canvas").evaluate(read, points))


def test_divider_opacity_and_views(
    opened: Callable[..., "Page"], segmenter_run: Path, segmenter: ServedSegmenter
) -> None:
    path = sorted((segmenter_run.parent / "land" / "validation").glob("*_sat.jpg"))[0]
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(float)
    response = segmenter.compute([segmenter.read(path.read_bytes())])[0]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(response.mask))))
    colors = np.array([list(bytes.fromhex(one.color[1:])) for one in response.classes])
    points = [(x, y) for x in (2, 9, 22, 29) for y in (3, 28)]
    rows, columns = [y for _, y in points], [x for x, _ in points]
    image, flat = pixels[rows, columns], colors[mask[rows, columns]]
    page = opened()
    page.locator("#file").set_input_files(path)
    expect(page.get_by_role("region", name="fields").locator("canvas")).to_be_visible()
    overlay = 0.4 * image + 0.6 * flat
    left = np.array(columns)[:, None] < 16
    assert np.abs(colors_of(page, points) - np.where(left, image, overlay)).max() <= 3, "image left, overlay right"
    page.get_by_role("slider", name="Opacity").fill("100")
    assert np.abs(colors_of(page, points) - np.where(left, image, flat)).max() <= 3
    page.get_by_role("slider", name="Divider").fill("0")
    assert np.abs(colors_of(page, points) - flat).max() <= 3
    page.get_by_role("group", name="Right of the divider").get_by_role("button", name="Image").click()
    assert np.abs(colors_of(page, points) - image).max() <= 3
    page.get_by_role("group", name="Left of the divider").get_by_role("button", name="Mask").click()
    box = page.get_by_role("region", name="fields").locator("canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 5)
    page.mouse.up()
    left = np.array(columns)[:, None] < 24
    assert np.abs(colors_of(page, points) - np.where(left, flat, image)).max() <= 3, "the divider was dragged"
    name = response.classes[mask[int(5 / box["height"] * 32), 24]].name
    expect(page.get_by_role("region", name="fields").locator(".numbers")).to_have_text(f"Class at the pointer: {name}")
    listed = page.get_by_role("list", name="Share of each class").locator("li").all_text_contents()
    assert len(listed) == len({*mask.ravel().tolist()})


def test_a_file_that_is_not_an_image_is_reported_and_the_next_works(
    opened: Callable[..., "Page"], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_bytes(b"hello")
    page = opened()
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    expect(page.locator(".numbers").first).to_contain_text("notes.png: this image cannot be read")
    page.locator("#file").set_input_files(image_file(photos))
    expect(page.get_by_role("region", name="corners").locator(".predicted")).to_be_visible()


def test_a_format_that_the_browser_cannot_display_is_displayed_as_png(
    opened: Callable[..., "Page"], photos: Path, tmp_path: Path
) -> None:
    Image.open(image_file(photos)).save(tmp_path / "scan.tif")
    page = opened()
    page.locator("#file").set_input_files(tmp_path / "scan.tif")
    expect(page.locator(".preview img")).to_have_attribute("alt", "scan.tif")
    assert page.locator(".preview img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 16


def test_the_later_of_two_images_is_displayed(opened: Callable[..., "Page"], photos: Path) -> None:
    page = opened()
    delayed: list = []
    page.route("**/api/predict*", lambda route: delayed.append(route) if not delayed else route.continue_())
    page.locator("#file").set_input_files(image_file(photos, 2))
    expect(page.locator(".numbers").first).to_contain_text("predicting")
    page.locator("#file").set_input_files(image_file(photos, 1))
    expect(page.locator(".numbers").first).to_contain_text("16 x 16")
    before = page.locator(".preview img").get_attribute("src")
    delayed[0].continue_()
    page.wait_for_timeout(400)
    assert page.locator(".preview img").get_attribute("src") == before


def test_status_503_is_retried(opened: Callable[..., "Page"], photos: Path) -> None:
    page = opened()
    rejections = iter(range(2))

    def busy(route: "sync_api.Route") -> None:
        if next(rejections, None) is None:
            route.continue_()
        else:
            error = {"error": {"what": "too many requests", "why": "", "cure": ""}}
            route.fulfill(status=503, headers={"Retry-After": "0.1"}, body=json.dumps(error))

    page.route("**/api/predict*", busy)
    page.locator("#file").set_input_files(image_file(photos))
    expect(page.get_by_role("region", name="corners").locator(".predicted")).to_be_visible(timeout=8000)


@pytest.mark.parametrize("width", [390, 1280, 2200])
def test_the_page_fits_the_screen(opened: Callable[..., "Page"], width: int) -> None:
    page = opened(width)
    page.get_by_role("group", name="Validation images").get_by_role("button").first.click()
    expect(page.get_by_role("region", name="fields").locator("canvas")).to_be_visible()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if width == 390:
        page.wait_for_timeout(700)
        assert page.locator(".predicted").evaluate("one => one.getBoundingClientRect().top < innerHeight"), (
            "out of sight"
        )


def test_light_and_dark(opened: Callable[..., "Page"]) -> None:
    page = opened(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light colors").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_satisfies_wcag_aa(url: str, browser: "Browser", dark: bool) -> None:
    page = browser.new_page(color_scheme="dark" if dark else "light")
    page.goto(url)
    page.locator(".examples .reel button").first.click()
    page.wait_for_selector(".bars")
    assert violations(page) == []
    page.close()
