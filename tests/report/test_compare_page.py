"""The page of a comparison and its output folder, which never replaces other files."""

import csv
import importlib
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import sightline
from compare_toys import classifier, pretraining, segmenter, write_run
from sightline.__main__ import run
from sightline.errors import SightlineError
from sightline.insight.curves import MetricCurve
from sightline.report.compare.figures import binned_means, draw_cost, draw_differences, draw_overlay, most_different
from sightline.report.compare.files import write_comparison
from sightline.report.compare.numbers import compare
from sightline.report.compare.page import runs_table
from sightline.report.compare.paired_sections import gallery_image, only_right, thumbnails_by_name
from sightline.tasks.segment.compare import mask_rows

TRUTH = np.arange(60) % 3
BLANK = b"\x89PNG\r\n\x1a\n" + bytes(8) + (64).to_bytes(4, "big") * 2
ACCURACY = MetricCurve("accuracy", "Accuracy", key="metric")


def said(*wrong: int) -> list[int]:
    return np.where(np.isin(np.arange(60), wrong), (TRUTH + 1) % 3, TRUTH).tolist()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are planned and drawn, not rendered."""
    monkeypatch.setattr(importlib.import_module("sightline.report.compare.files"), "png", lambda figure: BLANK)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    a = classifier(tmp_path / "a", said(*range(14)), TRUTH.tolist(), settings={"optim.lr": 0.5})
    return [a, classifier(tmp_path / "b", said(12, 13, 14, 15), TRUTH.tolist(), settings={"optim.lr": 0.25})]


class Words(HTMLParser):
    """The text and the headings of a page; raises AssertionError for unbalanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.said: list[str] = []
        self.headings: list[str] = []
        self.feed(page)
        assert self.open == []
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open += [tag] if tag not in ("img", "meta") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.said.append(data)
            self.headings += [data] if self.open[-1] == "h2" else []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A rendered comparison of two classifiers whose names, classes and files contain markup."""
    place = tmp_path_factory.mktemp("whole")
    names = [f"val/<script>{i}&.png" for i in range(60)]
    a = classifier(place / "<i>a", said(*range(14)), TRUTH.tolist(), names, settings={"optim.lr": 0.5})
    b = classifier(place / "b&b", said(12, 13, 14, 15), TRUTH.tolist(), names, settings={"optim.lr": 0.25})
    (a / "report.html").write_text("x")
    page, _ = write_comparison([a, b], place / "out")
    yield page.parent, page.read_text(encoding="utf-8")


def test_the_page_has_its_sections_in_order_and_its_figures_as_files(whole: tuple[Path, str]) -> None:
    folder, page = whole
    assert Words(page).headings == [
        *("Result", "Cost and quality", "Recipe differences", "Curves", "Class by class"),
        *("Images on which the runs differ", "Agreement"),
    ]
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert drawn == {
        *("cost-time", "cost-flops", "cost-parameters", "curve-training-loss", "curve-validation-loss", "curve-metric"),
        *("curve-metric-time", "curve-metric-flops", "classes-1"),
    }
    assert set(re.findall(r'id="figure-([a-z0-9-]+)"', page)) == drawn
    assert all(alt for alt in re.findall(r'<img[^>]* alt="([^"]*)"', page))


def test_the_page_has_the_numbers(whole: tuple[Path, str]) -> None:
    words = Words(whole[1]).text
    assert re.search(r"b&b beats <i>a by 16\.7 points of accuracy \[\d+\.\d, \d+\.\d\] on the same 60 images\.", words)
    assert "76.67 [" in words and "93.33 [" in words and "+16.67 [+" in words and "0.008" in words
    assert "3 min 10 s 3 G 1 k 3" in words and "reference" in words
    assert "The same score of <i>a without training: most frequent class 25.0%" in words
    assert "optim.lr 0.5 0.25" in words and "train.seed" not in words
    assert re.search(r"<b>cow</b> <i>a: cat, \d+% b&b: <b>cow</b>, \d+%", words)
    assert "Each run against <i>a, on 60 images." in words and "44 (73.3%)" in words


def test_names_are_escaped(whole: tuple[Path, str]) -> None:
    folder, page = whole
    parsed = Words(page)
    assert "i" not in parsed.tags and parsed.tags.count("script") == 1 and "<b>cow</b>" in parsed.text
    assert "<script>0" not in page and "&lt;script&gt;" in page
    assert 'href="../%3Ci%3Ea/report.html"' in page and "%26" not in page  # only the first has its own report
    assert "Content-Security-Policy" in page
    assert all(place.startswith("data:image/png;base64,") for place in re.findall(r'<img src="([^"]*)"', page))
    assert {place[:1] for place in re.findall(r'<a href="([^"]*)"', page)} == {"#", "."}
    assert json.loads((folder / "compare.json").read_text())["runs"][0]["name"] == "<i>a"


def test_the_numbers_are_in_json_and_csv_files(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    found = compare([folder.parent / "<i>a", folder.parent / "b&b"])
    values = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    (pair,) = values["comparisons"]
    numbers = found.pairs[0]
    assert (pair["difference"], tuple(pair["interval"]), pair["p"]) == (
        numbers.difference,
        numbers.interval,
        numbers.p,
    )
    assert values["recipes"] == {"optim.lr": {"<i>a": "0.5", "b&b": "0.25"}} and values["metric"] == "accuracy"
    assert [row["class"] for row in pair["classes"]["F1"]] == ["cat", "dog", "<b>cow</b>"]
    with open(folder / "compare.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["difference"], first["finished"], second["train_flops"]) == ("", "true", "3e+09")
    assert float(second["difference"]) == pytest.approx(10 / 60) and float(second["p_corrected"]) == pytest.approx(
        pair["p"]
    )


def test_galleries_have_the_images_that_only_one_run_classifies_correctly(runs: list[Path]) -> None:
    found = compare(runs)
    pictures = thumbnails_by_name(found)
    gained, lost = (only_right(found.pairs[0], pictures, second) for second in (True, False))
    reference = found.pairs[0].results[0]
    assert sorted(reference.names[row] for row in gained) == [f"val/{i:03d}.png" for i in range(12)]
    assert sorted(reference.names[row] for row in lost) == ["val/014.png", "val/015.png"]
    confidence = [reference.confidence[row] for row in gained]
    assert confidence == sorted(confidence, reverse=True) and confidence[0] > confidence[-1]
    name = reference.names[gained[0]]
    drawn = gallery_image(found.pairs[0], gained[0], pictures)
    truth = reference.classes[reference.truth[gained[0]]]
    assert f">b: {truth}, " in drawn and f">a: {truth}, " not in drawn and f'alt="{name}: {truth}; a predicts' in drawn
    assert drawn.index('class="wrong">a: ') < drawn.index('class="sure">b: ')
    with np.load(runs[0] / "snapshots" / "samples.npz") as samples:
        np.testing.assert_array_equal(pictures[name], samples["images"][int(name[4:7])])


def scenes(wrong: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, truth) uint8 [N, 12, 16]; a share of the predicted pixels of each image is random."""
    truth = np.random.default_rng(0).integers(0, 3, (len(wrong), 3, 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 3, truth.shape).astype(np.uint8)
    return np.where(rng.random(truth.shape) < np.array(wrong)[:, None, None], drawn, truth), truth


@pytest.mark.usefixtures("quick")
def test_masks_of_all_runs_are_shown_where_they_differ_most(tmp_path: Path) -> None:
    (first, truth), (second, _) = scenes((0.9, 0.1, 0.5, 0.5, 0.5, 0.5), 1), scenes((0.0, 0.9, 0.4, 0.4, 0.3, 0.3), 2)
    places = [segmenter(tmp_path / name, one, truth) for name, one in (("a", first), ("b", second))]
    found = compare([*places, write_run(tmp_path / "c", "segment", finished=False)])
    shown = mask_rows(found)
    assert shown[0].name == "val/0000_sat.jpg" and "val/0001_sat.jpg" in [row.name for row in shown]
    for row in shown:
        place = int(row.name[4:8])
        for mask, own in zip(row.masks, (first, second), strict=False):
            assert mask is not None
            np.testing.assert_array_equal(mask, own[place])
        np.testing.assert_array_equal(row.truth, truth[place])
        assert row.masks[2] is None
    page, lines = write_comparison([*places, tmp_path / "c"], tmp_path / "out")
    assert 'id="figure-same-images"' in page.read_text() and "c and a cannot be compared image by image" in lines[1]


@pytest.mark.usefixtures("quick")
def test_pretraining_runs_have_a_page_without_paired_sections(tmp_path: Path) -> None:
    places = [pretraining(tmp_path / name, knn) for name, knn in (("a", 0.4), ("b", 0.7))]
    page, lines = write_comparison(places, tmp_path / "out")
    words = Words(page.read_text(encoding="utf-8"))
    assert words.headings == ["Result", "Cost and quality", "Recipe differences", "Curves"]
    assert "a 40.00 [35.00, 45.00]%, b 70.00 [65.00, 75.00]%" in lines[0] and "no paired interval" in words.text
    assert "beats" not in words.text and "0.6 12" in words.text
    drawn = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"curve-feature-std", "curve-effective-rank", "curve-metric", "cost-flops"} <= drawn


@pytest.mark.usefixtures("quick")
def test_runs_that_are_not_comparable_have_a_note_and_others_are_compared(
    tmp_path: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = classifier(tmp_path / "c", said(), TRUTH.tolist(), [f"new/{i}.png" for i in range(60)])
    young = write_run(tmp_path / "d", numbers={"accuracy": 0.5}, finished=False)
    assert run(["report", str(runs[0]), str(other), str(young), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    words = Words((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    for text in (printed, words):
        assert "have none in common" in text and "d is not finished" in text and "sightline resume" in text
    assert printed.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert "50.00 so far" in words and "3 so far" in words
    assert "Recipes, curves and costs are shown for all runs" in words
    assert "beats" not in words and "optim.lr 0.5 0.1 0.1" in words
    assert "curve-metric.png" in {path.name for path in (tmp_path / "out" / "figures").iterdir()}


@pytest.mark.usefixtures("quick")
def test_the_function_and_the_command_write_to_runs_compare(
    tmp_path: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = sightline.report("a", "b", quiet=True)
    assert page == Path("runs/compare/report.html") and page.is_file() and capsys.readouterr().out == ""
    old = {path.name: path.read_bytes() for path in page.parent.iterdir() if path.is_file()}
    assert run(["report", "b", "a", "--quiet"]) == 0  # the same runs with another reference: replaced
    assert page.read_bytes() != old["report.html"]
    assert run(["report", "a", "b", "--quiet"]) == 0
    assert {path.name: path.read_bytes() for path in page.parent.iterdir() if path.is_file()} == old
    assert capsys.readouterr().out.splitlines() == [str(page)] * 2


@pytest.mark.usefixtures("quick")
def test_other_files_are_not_overwritten(tmp_path: Path, runs: list[Path]) -> None:
    c = classifier(tmp_path / "c", said(), TRUTH.tolist())
    out = tmp_path / "out"
    page, _ = write_comparison(runs, out)
    (out / "notes.txt").write_text("mine")
    old = page.read_bytes()
    with pytest.raises(SightlineError, match="a comparison of other runs") as caught:
        write_comparison([*runs, c], out)
    assert "--overwrite" in caught.value.cure and page.read_bytes() == old
    write_comparison([*runs, c], out, overwrite=True)
    assert page.read_bytes() != old and (out / "notes.txt").read_text() == "mine"
    assert (out / "figures" / "differences.png").is_file()
    write_comparison(runs, out, overwrite=True)
    assert not (out / "figures" / "differences.png").exists()  # figures of the old comparison are removed


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a stranger's folder": lambda p: (p.mkdir(), (p / "thesis.txt").write_text("x")),
    "a run": lambda p: classifier(p, said(), TRUTH.tolist()),
    "a page of something else": lambda p: (p.mkdir(), (p / "report.html").write_text("x")),
    "a file": lambda p: p.write_text("x"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_without_a_comparison_is_not_changed(tmp_path: Path, runs: list[Path], kind: str) -> None:
    FOREIGN[kind](tmp_path / "out")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(SightlineError) as caught:
            write_comparison(runs, tmp_path / "out", overwrite)
        assert "--out" in caught.value.cure and caught.value.status == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_errors_of_the_command_line(tmp_path: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(runs[0]), "--out", str(tmp_path / "x")]) == 2
    assert "are for a comparison" in capsys.readouterr().err
    pretraining(tmp_path / "p", 0.4)
    assert run(["report", str(runs[0]), str(tmp_path / "p"), "--out", str(tmp_path / "x")]) == 2
    assert "different tasks" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_overlaid_curves_have_one_line_per_run_in_its_color(tmp_path: Path, runs: list[Path]) -> None:
    entries = compare([*runs, write_run(tmp_path / "young", finished=False)]).entries
    for over, last in (("epoch", 3), ("minutes", 3), ("training FLOPs", 3e9)):
        lines = draw_overlay(entries, ACCURACY, over).axes[0].get_lines()
        lines = [line for line in lines if not str(line.get_label()).startswith("_")]
        assert [line.get_label() for line in lines] == ["a", "b"]  # the third has no accuracy yet
        assert len({line.get_color() for line in lines}) == 2
        assert lines[0].get_xdata()[-1] == pytest.approx(last)
        np.testing.assert_allclose(lines[1].get_ydata(), 100 * np.array([1, 2, 3]) / 3 * 56 / 60)


def test_figures_of_cost_and_differences(runs: list[Path]) -> None:
    found = compare(runs)
    lines = draw_cost(found, "training FLOPs", [1e9, 8e9]).axes[0]
    assert lines.get_xscale() == "log"
    assert draw_cost(found, "training FLOPs", [1e9, 2e9]).axes[0].get_xscale() == "linear"
    values = np.array([0.1, 0.02, -0.1])
    axes = draw_differences(["x", "y", "z"], values, values - 0.05, values + 0.05, "t").axes[0]
    colors = [line.get_color() for line in axes.get_lines()[1::2]]
    assert len(set(colors)) == 3 and axes.get_xlabel() == "points; gray: the interval includes zero"
    none = np.full(3, np.nan)
    axes = draw_differences(["x", "y", "z"], values, none, none, "t").axes[0]
    assert axes.get_xlabel() == "points; gray: no interval, or the interval includes zero"
    assert most_different(np.array([0.1, np.nan, -0.5, 0.2, 0.0]), 3).tolist() == [3, 0, 2]


def test_a_noisy_curve_is_averaged_over_adjacent_points() -> None:
    x, y = np.arange(130.0), np.tile([0.0, 2.0], 65)
    few, means = binned_means(x, y, 65)
    assert len(few) == 65 and (means == 1).all() and few[0] == 0.5
    assert binned_means(x[:60], y[:60], 65)[0] is not None and len(binned_means(x[:60], y[:60], 65)[0]) == 60


def test_the_spread_of_a_finished_run_is_that_of_its_stored_weights(tmp_path: Path) -> None:
    """As on the page of the run; the last epoch may have been evaluated in bfloat16."""
    runs = [pretraining(tmp_path / name, knn=0.5) for name in ("a", "b")]
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"effective_rank": 34.5})
    (runs[0] / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (runs[1] / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n")  # not finished
    _, rows = runs_table(compare(runs), ["", ""])
    assert [row[3] for row in rows] == ["34.5", "12"]
