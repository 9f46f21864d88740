"""The page in a real browser: what moves, what opens, what is printed; no request, no error, no markup out of names."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import sightline
from sightline.config import Config
from sightline.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("browser") / "<img src=x onerror=alert(2)>")
    for place in (run / "snapshots").glob("epoch-*"):  # at epoch 1 all are taken for the first class
        epoch = int(place.name.removeprefix("epoch-"))
        arrays = dict(np.load(place / "features.npz"))
        truth = np.arange(24) % 4
        said = {"predictions": truth * (epoch > 1), "confidence": np.full(24, 0.125 * epoch)}
        np.savez(place / "features.npz", **arrays | said)
    return write_report(run)


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """open_page(path, width=1280, dark=False): the page; in the end it has asked for nothing and nothing has failed."""
    asked, failed, contexts = [], [], []

    def opened(path: Path, width: int = 1280, dark: bool = False) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", has_touch=width < 600
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("dialog", lambda dialog: failed.append(f"dialog {dialog.message}"))
        page.goto(path.as_uri())
        page.wait_for_selector(".lives")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not failed
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def point_of(page: "Page", index: int) -> tuple[float, float]:
    """Where the item lies on the map of the epoch that is shown, in pixels of the window."""
    data = json.loads(page.locator("#map-data").text_content() or "")
    epoch = int(page.locator(".map .time input").input_value())
    kind = "tsne" if page.locator(".map .choice button").first.get_attribute("aria-pressed") == "true" else "pca"
    raw = page.evaluate("text => Array.from(atob(text), c => c.charCodeAt(0))", data["kinds"][kind][epoch])
    x, y = np.frombuffer(bytes(raw), "<u2").reshape(-1, 2)[index] / 65535
    page.locator("canvas.map").scroll_into_view_if_needed()
    box = page.locator("canvas.map").bounding_box()
    assert box
    span = box["width"] - 2 - 28
    return box["x"] + 1 + 14 + x * span, box["y"] + 1 + 14 + (1 - y) * span


def test_hovering_a_point_shows_its_picture_and_what_was_said_at_that_epoch(report: Path, open_page) -> None:
    page = open_page(report)
    page.mouse.move(*point_of(page, 5))
    card = page.locator(".map .card")
    assert "Maine & Coon" in card.inner_text() and "75.0% sure" in card.inner_text()
    assert "val/5.png" in card.inner_text() and "found" in card.inner_text()
    shown = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 8, 6).data)"
    pixels = np.array(card.locator("canvas").evaluate(shown)).reshape(6, 8, 4)[..., :3]
    original = np.load(report.parent / "snapshots" / "samples.npz")["images"][5].transpose(1, 2, 0)
    assert np.abs(pixels - original.astype(int)).mean() < 45  # random pixels, which WebP blurs; another is at 85
    page.locator(".map .time input").fill("0")
    page.wait_for_timeout(900)
    page.mouse.move(*point_of(page, 5))
    assert "as <script>alert(1)</script>" in card.inner_text() and "12.5% sure" in card.inner_text()


def test_the_slider_moves_the_points_and_play_goes_to_the_end(report: Path, open_page) -> None:
    page = open_page(report)
    says = page.locator(".map .numbers")
    assert "Epoch 6" in says.inner_text()
    before = page.locator("canvas.map").screenshot()
    page.locator(".map .time input").fill("1")
    assert "Epoch 2" in says.inner_text() and "k-NN accuracy" in says.inner_text()
    page.wait_for_timeout(900)
    assert page.locator("canvas.map").screenshot() != before
    page.get_by_role("button", name="Play").click()
    expect(says).to_contain_text("Epoch 6", timeout=9000)
    page.get_by_role("button", name="PCA").click()
    assert "of the variance shown" in says.inner_text()


def test_a_class_is_isolated_and_right_and_wrong_change_with_the_epoch(report: Path, open_page) -> None:
    page = open_page(report)
    whole = page.locator("canvas.map").screenshot()
    entry = page.locator(".map .legend button", has_text="Maine & Coon")
    entry.click()
    assert entry.get_attribute("aria-pressed") == "true" and page.locator("canvas.map").screenshot() != whole
    page.get_by_role("button", name="Right or wrong").click()
    counts = page.locator(".map .legend .count")
    assert counts.all_inner_texts() == ["24", "0"]
    page.locator(".map .time input").fill("0")
    assert counts.all_inner_texts() == ["6", "18"]
    page.get_by_role("button", name="Prediction").click()
    assert counts.all_inner_texts() == ["24", "0", "0", "0"]


def test_the_lasso_lists_the_pictures_inside(report: Path, open_page) -> None:
    page = open_page(report)
    page.get_by_role("button", name="Lasso").click()
    page.locator("canvas.map").scroll_into_view_if_needed()
    box = page.locator("canvas.map").bounding_box()
    corners = [(2, 2), (box["width"] - 3, 2), (box["width"] - 3, box["height"] - 3), (2, box["height"] - 3)]
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    assert "24 images inside the lasso, 24 right" in page.locator(".map .listing").inner_text()
    assert page.locator(".map .listing li").count() == 24
    page.get_by_role("button", name="Close").click()
    assert page.locator(".map .listing li").count() == 0


def test_the_keys_go_from_point_to_point(report: Path, open_page) -> None:
    page = open_page(report)
    page.locator("canvas.map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "val/1.png" in page.locator(".map .card").inner_text()
    assert "val/1.png" in (page.locator("canvas.map").get_attribute("aria-label") or "")
    page.keyboard.press("Escape")
    assert not page.locator(".map .card").is_visible()


def test_a_cell_of_the_confusion_matrix_opens_its_pictures(report: Path, open_page) -> None:
    page = open_page(report)
    page.get_by_role("button", name="By name").click()
    matrix = page.locator("canvas.matrix")
    matrix.focus()
    order = json.loads(page.locator("#confusion-data").text_content() or "")["orders"]["name"]
    column = order.index(1)
    for _ in range(order.index(0)):
        page.keyboard.press("ArrowDown")
    for _ in range(column):
        page.keyboard.press("ArrowRight")
    says = page.locator(".confusion .numbers").inner_text()
    assert says.startswith("<script>alert(1)</script> taken for Maine & Coon: 2 of 6")  # 0 and 20 of each fifth
    page.keyboard.press("Enter")
    names = page.locator(".confusion .listing .name").all_inner_texts()
    assert names == ["val/0.png", "val/20.png"]


def test_tables_sort_by_number(report: Path, open_page) -> None:
    page = open_page(report)
    table = page.locator("table[data-sortable]").first
    column = table.locator("tbody tr td:nth-child(4)")
    head = table.get_by_role("button", name="Recall, %")
    head.click()
    rising = [float(text) for text in column.all_inner_texts()]
    head.click()
    falling = [float(text) for text in column.all_inner_texts()]
    assert rising == sorted(rising) and falling == rising[::-1] and len(set(rising)) > 1


def test_light_and_dark_can_be_chosen(report: Path, open_page) -> None:
    page = open_page(report, dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light colors").click()
    light = page.evaluate(ground)
    assert dark != light and sum(map(int, dark[4:-1].split(","))) < 150 < sum(map(int, light[4:-1].split(",")))


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_nothing_is_wider_than_the_window(report: Path, open_page, width: int) -> None:
    page = open_page(report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_gets_the_still_pictures(report: Path, open_page) -> None:
    page = open_page(report)
    assert not page.locator("#figure-tsne").is_visible() and page.locator("canvas.map").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#figure-tsne").is_visible() and not page.locator("canvas.map").is_visible()
    assert not page.get_by_role("button", name="Play").is_visible()


def test_without_scripts_the_still_pictures_stand(report: Path, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#figure-tsne").is_visible() and not page.locator(".live").first.is_visible()
    context.close()


def test_masks_are_swiped_and_their_epochs_played(
    make_scenes: Callable[..., Path], toy: Callable[..., Config], tmp_path: Path, open_page
) -> None:
    data = make_scenes(tmp_path / "scenes", train=4, val=2)
    run = sightline.train(toy(**{"train.epochs": 3}), data, out=tmp_path / "run", quiet=True)
    page = open_page(run.report)
    canvas = page.locator("canvas.film")
    expect(canvas).to_have_attribute("aria-label", re.compile("Truth beside Prediction after epoch 3"))
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
    expect(canvas).to_have_attribute("aria-label", re.compile("Image beside Prediction after epoch 1"))
    image = np.load(run.path / "snapshots" / "samples.npz")["images"][row][:, 3, 1]
    assert np.abs(np.array(canvas.evaluate(pixel, 1)[:3]) - image.astype(int)).max() < 40
