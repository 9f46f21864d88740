"""The curves in a real browser: alternative texts, synchronized cursors, colors and marks."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev")
INK = (30, 36, 41)


def test_cursors_are_synchronized_and_legends_show_the_values(report: Path, open_page) -> None:
    page = open_page(report)
    boxes = page.locator(".live.curves figure")
    loss, accuracy = boxes.nth(0), boxes.nth(1)
    words = "Loss: training from 2.000 to 0.333, validation from 1.000 to 0.167"
    assert loss.get_attribute("aria-label") == words
    assert loss.locator(".u-legend .u-value").all_inner_texts() == ["6", "0.333", "0.167"], (
        "the last values without a cursor"
    )
    over = loss.locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + 2 / 5 * box["width"], box["y"] + box["height"] / 2)  # epoch 3 of 1 to 6
    page.wait_for_timeout(100)
    assert loss.locator(".u-legend .u-value").all_inner_texts() == ["3", "0.667", "0.333"]
    assert accuracy.locator(".u-legend .u-value").all_inner_texts() == ["3", "75.00", "100.00"]
    page.mouse.move(2, 2)
    page.wait_for_timeout(100)
    assert loss.locator(".u-legend .u-value").all_inner_texts() == ["6", "0.333", "0.167"]


def test_lines_and_marks_have_their_colors_and_the_best_epoch_is_marked(report: Path, open_page) -> None:
    page = open_page(report)
    loss = page.locator(".live.curves figure").first
    borders = "all => all.map(one => getComputedStyle(one).borderTopColor)"
    markers = loss.locator(".u-legend .u-series:not(:first-child) .u-marker")
    assert markers.evaluate_all(borders) == ["rgb(180, 83, 15)", "rgb(31, 106, 165)"]
    canvas, over = loss.locator("canvas"), loss.locator(".u-over")
    png = base64.b64decode(canvas.evaluate("c => c.toDataURL()").partition(",")[2])
    found = np.array(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)
    left, wide = over.evaluate("o => [o.offsetLeft, o.clientWidth]")
    dark = (np.abs(found[..., :3] - INK).max(2) < 40) & (found[..., 3] > 100)
    assert abs(int(dark.sum(0).argmax()) - (left + 4 / 5 * wide)) <= 2, "epoch 5 of 1 to 6 is the best"
    page.get_by_role("button", name="Dark colors").click()
    page.wait_for_timeout(200)
    assert markers.evaluate_all(borders) == ["rgb(240, 163, 94)", "rgb(121, 180, 228)"]
