"""The report of a run: sections, figures, data of the map, notes on what is missing; and its page in a browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import sightline
from multilabel_toys import COLORS
from sightline.report.page import write_report
from sightline.report.run import read_run
from sightline.runs.atomic import read_json_lines
from sightline.tasks.multilabel.predictions import (
    LabelSets,
    confused_pairs,
    confusion,
    losses_of,
    read_label_sets,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

CLASSES = tuple(sorted(COLORS))
pytestmark = pytest.mark.usefixtures("each_figure_once")


@pytest.fixture
def page(copied: Path) -> str:
    return write_report(copied).read_text(encoding="utf-8")


def rows_of(page: str, title: str) -> list[list[str]]:
    """The texts of the cells of a table."""
    found = page[page.index(f'aria-label="{title}"') :]
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", found[: found.index("</table>")], re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.S) for line in lines]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in cells]


def test_sections_and_figures(page: str, copied: Path) -> None:
    headings = re.findall("<h2[^>]*>(.*?)</h2>", page)
    assert headings[:6] == [
        "Summary", "Features over the epochs", "Curves", "Classes", "Confused classes", "Wrong label sets",
    ]  # fmt: skip
    names = {path.name for path in (copied / "figures").iterdir()}
    assert {"confusion.png", "together.png", "tsne.png", "pca.png", "mistakes.png"} <= names
    assert {"curve-loss.png", "curve-mean-average-precision.png", "curve-macro-f1.png"} <= names
    final = sightline.Run(copied).metrics
    value = f"{100 * final['mean_average_precision']:.1f}"
    assert f"a mean average precision of {value}% (no interval can be given) over 4 classes" in page
    frequencies = 100 * final["baselines"]["class_frequencies"]
    assert f"The same score without training: class frequencies <b>{frequencies:.1f}%</b>, k-NN" in page


def test_the_table_of_classes(page: str, copied: Path) -> None:
    head, *rows = rows_of(page, "Class by class")
    assert head[0] == "Class" and {row[0] for row in rows} == set(CLASSES)
    sets = read_label_sets(read_run(copied))[1]
    assert sets is not None
    images = dict(zip(sets.classes, sets.truth.sum(0), strict=True))
    thresholds = dict(zip(sets.classes, sets.thresholds, strict=True))
    assert all(int(row[-1]) == images[row[0]] and row[-2] == f"{thresholds[row[0]]:.3f}" for row in rows)
    values = [float(row[2]) for row in rows]
    assert values == sorted(values)


def test_the_gallery_has_the_images_with_the_largest_loss(page: str, copied: Path) -> None:
    sets = read_label_sets(read_run(copied))[1]
    assert sets is not None
    wrong = np.flatnonzero((sets.predicted != sets.truth).any(1))
    worst = sets.names[wrong[losses_of(sets)[wrong].argmax()]]
    gallery = page[page.rindex(">Wrong label sets<") :]
    shown = re.findall(r'<img[^>]*title="([^"]*)"', gallery)
    assert shown[0] == worst and len(shown) == len(set(shown)) == min(len(wrong), 24)
    assert f"{len(wrong)} of 24 images have a wrong label set" in gallery


def test_the_map_has_the_label_sets(page: str, copied: Path) -> None:
    blocks = {name: json.loads(value) for name, value in re.findall(r'id="([^"]*)">({.*?})</script>', page, re.S)}
    sets, count = blocks["items-data"]["sets"], len(blocks["items-data"]["names"])
    assert sets["names"] == list(CLASSES) and len(sets["truth"]) == len(sets["predicted"]) == 4
    assert blocks["map-data"]["count"] == 16 <= count


def test_other_names_are_escaped(copied: Path) -> None:
    for name in ("predictions/val.csv", "thresholds.json"):
        path = copied / name
        path.write_text(path.read_text().replace("red", "<b>x</b>"))
    text = write_report(copied).read_text(encoding="utf-8")
    assert "<b>x</b>" not in text and "&lt;b&gt;x&lt;/b&gt;" in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("predictions/val.csv", b"filename,label\n", "predictions/val.csv: cannot be read"),
        ("predictions/val.csv", None, "predictions/val.csv: missing"),
        ("snapshots/samples.npz", b"PK", "snapshots/samples.npz: cannot be read"),
        ("snapshots/mistakes.npz", b"", "snapshots/mistakes.npz: cannot be read"),
        ("thresholds.json", b"[1]", "thresholds.json: cannot be read"),
    ],
)
def test_a_page_without_a_file(copied: Path, name: str, content: bytes | None, said: str) -> None:
    (copied / name).unlink() if content is None else (copied / name).write_bytes(content)
    text = write_report(copied).read_text(encoding="utf-8")
    assert said in text
    assert ("Class by class" in text) == (not name.startswith("predictions")) and "Curves" in text


def test_the_page_says_whether_thresholds_were_chosen(copied: Path, page: str) -> None:
    assert "at the chosen thresholds" in page and "which was chosen on images held out" in page
    path = copied / "thresholds.json"
    path.write_text(re.sub(r"0\.\d+", "0.5", path.read_text()))
    text = write_report(copied).read_text(encoding="utf-8")
    assert "chosen on images held out" not in text and text.count("at a probability of 0.5") == 4


@pytest.mark.parametrize("change", ["class", "probability", "short"])
def test_damaged_predictions_are_reported(copied: Path, change: str) -> None:
    path = copied / "predictions" / "val.csv"
    header, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    if change == "class":
        cells[2] = "violet"
    elif change == "probability":
        cells[-1] = "1.5"
    else:
        cells.pop()
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")
    assert "predictions/val.csv: cannot be read" in write_report(copied).read_text(encoding="utf-8")


def test_an_unfinished_run(copied: Path) -> None:
    (copied / "predictions" / "val.csv").unlink()
    (copied / "thresholds.json").unlink()
    log = copied / "metrics.jsonl"
    kept = [line for line in log.read_text().splitlines() if json.loads(line)["event"] not in ("done", "stop")]
    log.write_text("\n".join(kept) + "\n")
    assert not any(record["event"] == "done" for record in read_json_lines(log))
    text = write_report(copied).read_text(encoding="utf-8")
    assert "it is written when training ends" in text and "sightline resume" in text


def test_the_legend_changes_with_the_chosen_class(copied: Path, open_page: Callable[..., "Page"]) -> None:
    shown = open_page(write_report(copied), still=True)
    choose, legend = shown.get_by_label("Color by"), shown.locator(".map .legend")
    texts = {}
    for name in (*CLASSES, "all labels right"):
        choose.select_option(label=name)
        texts[name] = legend.inner_text()
    assert len(set(texts.values())) == len(texts)
    assert all(name in texts[name] for name in CLASSES)


def toy(truth: list[list[int]], predicted: list[list[int]]) -> LabelSets:
    return LabelSets(
        tuple(map(str, range(len(truth)))),
        tuple("abc"),
        np.array(truth, bool),
        np.array(predicted, float),
        np.full(3, 0.5),
    )


def test_the_matrix_of_confused_classes_by_hand() -> None:
    sets = toy(
        [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]],
        [[0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 1]],
    )
    expected = [
        [1, 0.5, 0.5, 1],  # a: found once, once b and c instead, once nothing
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 2, 0, 0],  # b where no class was missed
    ]
    assert confusion(sets).tolist() == expected
    assert confusion(sets)[:3].sum(1).tolist() == sets.truth.sum(0).tolist()
    assert [(pair.missed, pair.predicted, pair.rows.tolist()) for pair in confused_pairs(sets, 9)] == [
        ("a", "c", [0]),  # in 1 image, expected 2 x 1 / 5
        ("a", "b", [0]),  # in 1 image, expected 2 x 3 / 5
    ]
