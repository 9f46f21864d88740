"""The page in a real browser: interactive views and printing; no requests, no errors, names are escaped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sightline.report import live
from sightline.report.page import write_report
from sightline.tasks.classify import report as classify_report

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
expect = sync_api.expect
ACCENT, WARM, TRACK = (31, 106, 165), (180, 83, 15), (232, 230, 225)
"""Colors of the light theme in style.css: correct, wrong, empty."""


def positions(page: "Page") -> np.ndarray:
    """Positions of the images on the map of the displayed epoch, [N, 2] in pixels of the canvas."""
    data = json.loads(page.locator("#map-data").text_content() or "")
    epoch = int(page.locator(".map .time input").input_value()) if len(data["epochs"]) > 1 else 0
    first = page.get_by_role("group", name="Projection").get_by_role("button").first
    kind = "tsne" if first.get_attribute("aria-pressed") == "true" else "pca"
    raw = page.evaluate("text => Array.from(atob(text), c => c.charCodeAt(0))", data["kinds"][kind][epoch])
    x, y = np.frombuffer(bytes(raw), "<u2").reshape(-1, 2).T / 65535
    span = page.locator("canvas.map").evaluate("canvas => canvas.clientWidth") - 28
    return np.stack([14 + x * span, 14 + (1 - y) * span], axis=1)


def apart(points: np.ndarray) -> list[int]:
    """Indices of the images whose points overlap with no other."""
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(len(points))
    return np.flatnonzero(distances.min(1) > 16).tolist()


def corner_of(page: "Page") -> np.ndarray:
    """The upper left corner of the map, in pixels of the window."""
    page.locator("canvas.map").scroll_into_view_if_needed()
    box = page.locator("canvas.map").bounding_box()
    assert box
    return np.array([box["x"] + 1, box["y"] + 1])


def point_of(page: "Page", index: int) -> tuple[float, float]:
    """Position of an image on the map of the displayed epoch, in pixels of the window."""
    x, y = corner_of(page) + positions(page)[index]
    return x, y


def colors_at(canvas: "Locator", points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colors [N, 3] and opacities [N] from 0 to 1 of a canvas at points [N, 2] in its pixels."""
    read = """(c, points) => {
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return points.map(([x, y]) => Array.from(data.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 4)));
    }"""
    found = np.array(canvas.evaluate(read, points.round().astype(int).tolist()))
    return found[:, :3], found[:, 3] / 255


def draw_lasso(page: "Page", corners: np.ndarray) -> None:
    """Draw a lasso around corners [N, 2] in pixels of the map."""
    first, *others = (corner_of(page) + corners).tolist()
    page.mouse.move(*first)
    page.mouse.down()
    for corner in others:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()


def square(page: "Page") -> np.ndarray:
    """The corners of the map, without its rounded border."""
    side = page.locator("canvas.map").evaluate("canvas => canvas.clientWidth")
    return np.array([(6, 6), (side - 6, 6), (side - 6, side - 6), (6, side - 6)])


@pytest.fixture(scope="module")
def crowded(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 70 images in four small sheets, of one epoch at which the model is almost certain."""
    run = make_run(tmp_path_factory.mktemp("crowd") / "run", images=70, epochs=(1,))
    path = run / "snapshots" / "epoch-00001" / "features.npz"
    np.savez(path, **dict(np.load(path)) | {"confidence": np.full(70, 0.99999)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify_report, "draw_all", lambda todo: {})  # drawing has its own tests
        patch.setattr(live, "SHEET_PIXELS", 32)
        return write_report(run)


def test_hovering_a_point_shows_its_image_and_the_prediction_of_that_epoch(report: Path, open_page) -> None:
    page = open_page(report, still=True)
    page.mouse.move(*point_of(page, 5))
    card = page.locator(".map .card")
    lines = ["Truth: Maine & Coon", "Prediction: Maine & Coon", "75.0% confidence", "val/5.png"]
    assert card.inner_text().split("\n") == lines
    shown = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 8, 6).data)"
    pixels = np.array(card.locator("canvas").evaluate(shown)).reshape(6, 8, 4)[..., :3]
    original = np.load(report.parent / "snapshots" / "samples.npz")["images"][5].transpose(1, 2, 0)
    assert np.abs(pixels - original.astype(int)).mean() < 45  # random pixels, which WebP blurs; another is at 85
    page.locator(".map .time input").fill("0")
    page.mouse.move(*point_of(page, 5))
    assert "Prediction: <script>alert(1)</script>\n12.5% confidence" in card.inner_text()


def test_the_slider_moves_the_points_and_play_runs_to_the_last_epoch(report: Path, open_page) -> None:
    page = open_page(report)
    status = page.locator(".map .numbers")
    assert "Epoch 6" in status.inner_text()
    before = page.locator("canvas.map").screenshot()
    page.locator(".map .time input").fill("1")
    numbers = json.loads(page.locator("#map-data").text_content() or "")["epochs"]
    assert f"Epoch 2 k-NN accuracy {numbers[1]['knn']}, silhouette {numbers[1]['silhouette']}" in status.inner_text()
    assert len({epoch["silhouette"] for epoch in numbers}) == 4
    page.wait_for_timeout(900)
    assert page.locator("canvas.map").screenshot() != before
    page.get_by_role("button", name="Play").click()
    expect(status).to_contain_text("Epoch 6", timeout=9000)
    page.get_by_role("button", name="PCA").click()
    assert "of the variance shown" in status.inner_text()


def test_play_restarts_from_the_last_epoch_stops_there_and_can_be_paused(report: Path, open_page) -> None:
    page = open_page(report)
    status, slider, play = page.locator(".map .numbers"), page.locator(".map .time input"), page.locator(".map .play")
    assert slider.get_attribute("aria-valuetext") == "epoch 6" and play.inner_text() == "Play"
    play.click()
    assert "Epoch 1" in status.inner_text() and play.inner_text() == "Pause"
    play.click()
    page.wait_for_timeout(1300)
    assert "Epoch 1" in status.inner_text() and play.inner_text() == "Play"
    slider.fill("2")
    assert slider.get_attribute("aria-valuetext") == "epoch 3"
    play.click()
    expect(play).to_have_text("Play", timeout=5000)
    assert "Epoch 6" in status.inner_text() and slider.input_value() == "3"


def test_points_have_the_selected_colors_and_faint_ones_cannot_be_picked(report: Path, open_page) -> None:
    page = open_page(report, still=True)
    canvas, truth = page.locator("canvas.map"), np.arange(24) % 4
    classes = json.loads(page.locator("#items-data").text_content() or "")["colors"]
    palette = np.array([[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in classes])

    def check(wanted: np.ndarray, full: np.ndarray) -> list[int]:
        points = positions(page)
        alone = apart(points)
        found, opacity = colors_at(canvas, points)
        assert len(alone) > 8 and np.abs(found - wanted)[alone].max() < 12  # faint points have few levels
        assert ((opacity > 0.7) == full)[alone].all() and ((opacity < 0.3) == ~full)[alone].all()
        return alone

    everything = np.ones(24, bool)
    page.locator(".map .time input").fill("2")
    check(palette[truth], everything)
    page.get_by_role("button", name="PCA").click()
    check(palette[truth], everything)
    page.locator(".map .legend button", has_text="Maine & Coon").click()
    alone = check(palette[truth], truth == 1)
    page.mouse.move(*point_of(page, next(index for index in alone if truth[index] == 1)))
    assert page.locator(".map .card").is_visible()
    page.mouse.move(*point_of(page, next(index for index in alone if truth[index] != 1)))
    assert not page.locator(".map .card").is_visible()
    page.get_by_role("button", name="Lasso").click()
    draw_lasso(page, square(page))
    assert "6 images inside the lasso, 6 correct" in page.locator(".map .listing").inner_text()
    page.locator(".map .time input").fill("0")
    page.get_by_role("button", name="Correctness").click()
    check(np.where(truth[:, None] == 0, ACCENT, WARM), everything)
    page.get_by_role("button", name="Prediction").click()
    check(palette[truth * 0], everything)


def test_points_of_a_zoomed_map_are_picked_at_their_displayed_positions(report: Path, open_page) -> None:
    page = open_page(report, still=True)
    page.locator(".map .time input").fill("1")
    points, middle = positions(page), page.locator("canvas.map").evaluate("canvas => canvas.clientWidth") / 2
    seen = middle + (points - middle) * 1.6
    within = (np.abs(points - middle).max(1) > 30) & (np.abs(seen - middle).max(1) < middle)
    inside = [index for index in apart(points) if within[index]]
    page.get_by_role("button", name="Zoom in").click()
    assert len(inside) > 2
    for index in inside[:3]:
        page.mouse.move(*(corner_of(page) + seen[index]))
        expect(page.locator(".map .card .name")).to_have_text(f"val/{index}.png")
    page.get_by_role("button", name="Reset zoom").click()
    page.mouse.move(*point_of(page, inside[0]))
    expect(page.locator(".map .card .name")).to_have_text(f"val/{inside[0]}.png")


def test_a_class_is_isolated_and_correctness_changes_with_the_epoch(report: Path, open_page) -> None:
    page = open_page(report)
    initial = page.locator("canvas.map").screenshot()
    entry = page.locator(".map .legend button", has_text="Maine & Coon")
    entry.click()
    assert entry.get_attribute("aria-pressed") == "true" and page.locator("canvas.map").screenshot() != initial
    entry.click()
    assert entry.get_attribute("aria-pressed") == "false" and page.locator("canvas.map").screenshot() == initial
    entry.click()
    page.get_by_role("button", name="Correctness").click()
    counts = page.locator(".map .legend .count")
    assert counts.all_inner_texts() == ["24", "0"]
    page.locator(".map .time input").fill("0")
    assert counts.all_inner_texts() == ["6", "18"]
    page.get_by_role("button", name="Prediction").click()
    assert counts.all_inner_texts() == ["24", "0", "0", "0"]


def test_the_lasso_lists_the_images_inside(report: Path, open_page) -> None:
    page = open_page(report)
    page.get_by_role("button", name="Lasso").click()
    draw_lasso(page, square(page))
    assert "24 images inside the lasso, 24 correct" in page.locator(".map .listing").inner_text()
    assert page.locator(".map .listing li").count() == 24
    page.get_by_role("button", name="Close").click()
    assert page.locator(".map .listing li").count() == 0
    draw_lasso(page, square(page)[[0, 1, 3]])  # the half above the diagonal
    above = positions(page).sum(1) < square(page)[1].sum()
    names = [f"val/{index}.png" for index in np.flatnonzero(above)]
    assert 0 < len(names) < 24 and page.locator(".map .listing .name").all_inner_texts() == names


def test_points_outside_the_lasso_are_faint_and_misclassified_images_come_first(report: Path, open_page) -> None:
    page = open_page(report, still=True)
    page.locator(".map .time input").fill("0")
    page.get_by_role("button", name="Lasso").click()
    draw_lasso(page, square(page)[[0, 1, 3]])
    listing, points = page.locator(".map .listing"), positions(page)
    inside = points.sum(1) < square(page)[1].sum()
    wrong = listing.locator("li").evaluate_all("all => all.map(one => one.querySelector('.wrong') !== null)")
    assert 0 < sum(wrong) < len(wrong) and wrong == sorted(wrong, reverse=True)
    alone = [index for index in apart(points) if points[index].min() > 20 and points[index].max() < 680]
    opacity = colors_at(page.locator("canvas.map"), points)[1]
    assert (
        opacity[[i for i in alone if inside[i]]].min() > 0.6 > 0.3 > opacity[[i for i in alone if not inside[i]]].max()
    )
    page.get_by_role("button", name="Close").click()
    assert colors_at(page.locator("canvas.map"), points)[1][alone].min() > 0.6
    draw_lasso(page, square(page))
    page.locator(".map .legend button").first.click()
    assert listing.locator("li").count() == 0, "another class was isolated"


def test_arrow_keys_move_between_points(report: Path, open_page) -> None:
    page = open_page(report)
    page.locator("canvas.map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "val/1.png" in page.locator(".map .card").inner_text()
    assert "val/1.png" in (page.locator("canvas.map").get_attribute("aria-label") or "")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    assert "val/23.png" in page.locator(".map .card").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator(".map .card").is_visible()


def test_a_cell_of_the_confusion_matrix_lists_its_images(report: Path, open_page) -> None:
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
    status = page.locator(".confusion .numbers").inner_text()
    assert status.startswith("<script>alert(1)</script> predicted as Maine & Coon: 2 of 6")  # 0 and 20 of each fifth
    page.keyboard.press("Enter")
    names = page.locator(".confusion .listing .name").all_inner_texts()
    assert names == ["val/0.png", "val/20.png"]
    for key in ["ArrowLeft"] * 4 + ["ArrowRight"] * 3:
        page.keyboard.press(key)
        if ": 0 of" in page.locator(".confusion .numbers").inner_text():
            break
    page.keyboard.press("Enter")
    assert not page.locator(".confusion .listing").inner_text(), "an empty cell has no list"


def test_a_long_list_is_paged_and_has_the_right_thumbnails(crowded: Path, open_page) -> None:
    page = open_page(crowded)
    page.get_by_role("button", name="Lasso").click()
    draw_lasso(page, square(page))
    listing = page.locator(".map .listing")
    assert listing.locator("li").count() == 60 and "99.9% confidence" in listing.inner_text()
    listing.get_by_role("button", name="Show 10 more of 70").click()
    assert listing.locator(".name").all_inner_texts() == [f"val/{index}.png" for index in range(70)]
    assert not listing.get_by_role("button", name="Show").is_visible()
    read = "all => all.map(c => Array.from(c.getContext('2d').getImageData(0, 0, 8, 6).data))"
    shown = np.array(listing.locator("canvas").evaluate_all(read)).reshape(70, 6, 8, 4)[..., :3]
    original = np.load(crowded.parent / "snapshots" / "samples.npz")["images"].transpose(0, 2, 3, 1).astype(int)
    assert np.abs(shown - original).mean((1, 2, 3)).max() < 55  # random pixels, which WebP blurs; another is at 85


def test_a_cell_is_colored_by_its_count_and_lists_its_images_on_a_click(crowded: Path, open_page) -> None:
    page = open_page(crowded)
    page.get_by_role("button", name="By name").click()
    matrix, cell = page.locator("canvas.matrix"), 34  # CSS pixels, the largest cell
    order = json.loads(page.locator("#confusion-data").text_content() or "")["orders"]["name"]
    labels = matrix.evaluate("canvas => canvas.clientWidth") - 4 * cell - 1

    def corner(truth: int, predicted: int) -> np.ndarray:
        return labels + cell * np.array([order.index(predicted), order.index(truth)])

    cells = np.stack([corner(1, 1), corner(1, 2), corner(2, 1)]) + 4
    assert np.abs(colors_at(matrix, cells)[0] - [ACCENT, WARM, TRACK]).max() < 6
    x, y = corner(1, 2) + cell / 2
    matrix.click(position={"x": x, "y": y})
    status = page.locator(".confusion .numbers").inner_text()
    assert status == "Maine & Coon predicted as 犬: 4 of 18 (22.2%)"
    names = page.locator(".confusion .listing .name").all_inner_texts()
    assert names == ["val/5.png", "val/25.png", "val/45.png", "val/65.png"]
    page.get_by_role("button", name="Dark colors").click()
    page.wait_for_timeout(100)
    assert np.abs(colors_at(matrix, cells)[0][1] - [240, 163, 94]).max() < 6


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
    texts = ["1,200", "30", "200", "4.5"]
    column.evaluate_all("(cells, texts) => cells.forEach((cell, i) => (cell.textContent = texts[i]))", texts)
    head.click()
    assert column.all_inner_texts() == ["4.5", "30", "200", "1,200"]
    table.get_by_role("button", name="Class").click()
    marked = table.locator("th[aria-sort]")
    assert marked.count() == 1 and "Class" in marked.inner_text(), "one heading has the arrow"


def test_light_and_dark_can_be_chosen(report: Path, open_page) -> None:
    page = open_page(report, dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Correctness").click()
    dots = "all => all.map(dot => getComputedStyle(dot).backgroundColor)"
    assert page.locator(".map .legend .dot").evaluate_all(dots) == ["rgb(121, 180, 228)", "rgb(240, 163, 94)"]
    page.get_by_role("button", name="Light colors").click()
    light = page.evaluate(ground)
    page.wait_for_timeout(100)
    assert page.locator(".map .legend .dot").evaluate_all(dots) == [f"rgb{ACCENT}", f"rgb{WARM}"]
    page.reload()
    page.wait_for_selector(".interactive")
    assert page.evaluate(ground) == light, "the choice is stored"
    assert dark != light and sum(map(int, dark[4:-1].split(","))) < 150 < sum(map(int, light[4:-1].split(",")))


@pytest.mark.parametrize("width", [390, 1280, 2560])
def test_nothing_is_wider_than_the_window(report: Path, open_page, width: int) -> None:
    page = open_page(report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_still_figures_are_printed(report: Path, open_page) -> None:
    page = open_page(report)
    assert not page.locator("#figure-tsne").is_visible() and page.locator("canvas.map").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#figure-tsne").is_visible() and not page.locator("canvas.map").is_visible()
    assert not page.get_by_role("button", name="Play").is_visible()


def test_still_figures_are_shown_without_scripts(report: Path, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#figure-tsne").is_visible() and not page.locator(".live").first.is_visible()
    context.close()
