import base64
import csv
import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.insight.style import si_number
from sightline.report.findings import compute_findings
from sightline.report.formatting import duration, epochs_text, percent
from sightline.report.html import Html, element
from sightline.report.page import asset, digest, write_report
from sightline.report.run import read_run, with_predictions, with_samples
from sightline.runs.atomic import append_line
from sightline.stats.intervals import wilson_interval

FIGURES = {"curve-loss", "curve-accuracy", "curve-learning-rate", "curve-gradient-norm", "curve-data-wait",
           "confusion", "calibration", "pca", "tsne", "mistakes", "confused"}  # fmt: skip
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collect tags and text; raise AssertionError for unbalanced tags."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_run):
    run = make_run(tmp_path_factory.mktemp("reports") / "tiny run")
    return run, write_report(run).read_text(encoding="utf-8")


def test_every_figure_is_a_file_and_on_the_page(report):
    run, text = report
    assert {path.stem for path in (run / "figures").iterdir()} == FIGURES
    for name in FIGURES - {"mistakes", "confused"}:  # these two are shown image by image
        assert base64.b64encode((run / "figures" / f"{name}.png").read_bytes()).decode() in text


def test_deleting_the_report_and_writing_it_again_gives_the_same_bytes(report):
    run, text = report
    old = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    shutil.rmtree(run / "figures")
    (run / "report.html").unlink()
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == old


def test_the_page_has_no_external_content(report):
    page = Page(report[1])
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        assert (attributes.get("src") or "data:").startswith("data:image/png;base64,") or "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    outside = re.sub(r"<script.*?</script>", "", report[1], flags=re.S)  # tests/test_web.py checks the script
    assert "//" not in re.sub(r"data:image/png;base64,[^\"]*", "", outside)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy
    assert digest(asset("report.js")) in policy and digest(Html(asset("uplot.css") + asset("style.css"))) in policy


def test_names_are_escaped(report):
    page = Page(report[1])
    kinds = [attributes.get("type") for tag, attributes in page.tags if tag == "script"]
    assert kinds.count(None) == 1 and set(kinds) == {None, "application/json"} and "b" not in page.open
    assert "<script>alert(1)</script>" in page.text and "<b>train/</b>" in page.text
    assert (
        element("p", "<i>", Html("<b>"), 3, None, ["&"], title='"<') == '<p title="&quot;&lt;">&lt;i&gt;<b>3&amp;</p>'
    )
    assert "\\x00" in element("p", "a\x00b") and "\\udce4" in element("p", "b\udce4r")


def test_images_have_alternative_texts_and_headings_are_nested(report):
    page = Page(report[1])
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert all(a["href"][1:] in targets for t, a in page.tags if t == "a" and a.get("href"))


def test_alternative_texts_have_the_numbers_of_the_figures(report):
    texts = {}
    for figure in re.findall(r'<figure id="figure-([^"]+)">(.*?)</figure>', report[1], re.S):
        texts[figure[0]] = next(a["alt"] or "" for tag, a in Page(figure[1]).tags if tag == "img")
    assert set(texts) == FIGURES - {"mistakes", "confused"} and len(set(texts.values())) == len(texts)
    assert "training loss from 2.000 to 0.333, validation loss from 1.000 to 0.167" in texts["curve-loss"]
    assert "best 85.7%" in texts["curve-accuracy"] and "best epoch 5" in texts["curve-accuracy"]
    assert "5 of 24 images are off the diagonal" in texts["confusion"] and "predicted as" in texts["confusion"]
    assert "median 1, largest 1, last 1" in texts["curve-gradient-norm"]
    assert all("after epochs 1, 3 and 6" in texts[name] for name in ("tsne", "pca"))
    assert "mean confidence" in texts["calibration"]


def test_tables_scroll_in_labeled_boxes(report):
    boxes = re.findall(r"<div ([^>]*)><table", report[1])
    assert len(boxes) == report[1].count("<table") > 4
    for box in boxes:
        assert "scroll" in box and 'tabindex="0"' in box and 'role="region"' in box and 'aria-label="' in box
    style = asset("style.css")
    assert ".scroll { overflow: auto;" in style and re.search(r"\.rows tbody th[^}]*position: sticky; left: 0", style)
    assert "<thead><tr></tr></thead>" not in report[1] and not re.search(
        r"<thead><tr>(<th[^>]*></th>)+</tr>", report[1]
    )


def test_the_number_of_neighbors_is_the_one_used(tmp_path, make_run, no_figures, report):
    few = write_report(make_run(tmp_path / "run", images=12, epochs=(1,))).read_text(encoding="utf-8")
    assert "k-NN accuracy (k = 11), %" in few and "k-NN accuracy (k = 20), %" in report[1]


def test_confusions_that_occur_once_are_not_called_frequent(tmp_path, make_run, no_figures):
    words = Page(write_report(make_run(tmp_path / "run", images=11, epochs=(1,))).read_text(encoding="utf-8")).text
    assert "It misclassifies 3 images, each a different confusion." in words and "most frequent confusion" not in words
    assert (
        "The most confused pairs" not in words and words.count("% confidence") == 3 + 1
    )  # three images, and the text on calibration


def test_an_unfinished_run_has_a_notice_with_the_command(tmp_path, make_run, no_figures, report):
    run = make_run(tmp_path / "run", images=12, epochs=(1,))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "resume", "step": 10, "epoch": 1}\n')
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "This run is not finished. The predictions below are from before it was resumed." in words
    shutil.rmtree(run / "predictions")
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "This run is not finished. If it was interrupted, sightline resume RUN continues it" in words
    assert "not finished" not in report[1]


def test_the_headline_is_that_of_the_predictions(report):
    run, text = report
    with open(run / "predictions" / "val.csv", encoding="utf-8", newline="") as file:
        correct = [row["label"] == row["truth"] for row in csv.DictReader(file)]
    low, high = wilson_interval(sum(correct), len(correct))
    words = Page(text).text
    assert f"{100 * np.mean(correct):.2f}%" in words
    assert "The most confused pairs" in words
    assert f"95% interval {100 * low:.2f} to {100 * high:.2f}%" in words
    baselines = "most frequent class 25.0% , k-NN on raw pixels 41.7% (k-NN classifies 16 of 24 images)."
    assert f"The same score without training: {baselines}" in words
    assert "sightline train tiny --data 'my photos'" in words and "optim.lr 0.25 0.1" in words
    assert "Best epoch 5 of 8 planned" in words and "1 min 06 s" in words and "stopped early" in words


def test_the_class_table_is_sorted_by_f1(report):
    rows = re.findall(
        r'<tr><th scope="row">(.*?)</th>.*?class="figures">([\d.]+)<.*?>([\d.]+)<',
        report[1].partition("Class by class")[2],
    )[:4]
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores) and (scores[0], scores[-1]) == (72.7, 83.3)


def test_the_galleries_have_misclassified_images_most_confident_first(tmp_path, make_run):
    run = make_run(tmp_path / "run", epochs=(1,))
    (run / "snapshots" / "mistakes.npz").unlink()  # the samples have the same images
    files = with_samples(with_predictions(read_run(run)))
    found = compute_findings(files)
    assert files.predictions is not None and files.samples is not None
    assert sorted(int(one.name[4:-4]) for one in found.wrong) == list(range(0, 24, 5))
    confidences = [one.confidence for one in found.wrong]
    assert confidences == sorted(confidences, reverse=True) and confidences[0] > confidences[-1]
    for one in found.wrong:
        np.testing.assert_array_equal(one.image, files.samples.images[int(one.name[4:-4])])
    assert found.confused[0][:3] == (files.classes[0], files.classes[1], 2) and len(found.confused[0][3]) == 2


REMOVALS = {
    "predictions": "predictions/val.csv is missing or cannot be read",
    "snapshots": "No maps: the run has no stored features",
    "snapshots/samples.npz": "No maps: the labels are in snapshots/samples.npz",
    "snapshots/mistakes.npz": "Misclassified with the highest confidence",
    "metrics.jsonl": "No epoch has been logged yet",
    "provenance.json": "provenance.json is missing or cannot be read",
}


@pytest.mark.parametrize("part", REMOVALS)
def test_missing_files_are_listed_on_the_page(tmp_path, make_run, part, no_figures):
    run = make_run(tmp_path / "run", images=12, epochs=(1,))
    shutil.rmtree(run / part) if (run / part).is_dir() else (run / part).unlink()
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert REMOVALS[part] in words and "These files are missing in the run folder" in words and part in words


@pytest.mark.parametrize(("images", "classes"), [(5, 2), (1, 2), (12, 2)])
def test_tiny_runs_have_a_report(tmp_path, make_run, images, classes):
    run = make_run(tmp_path / "run", images=images, classes=classes, epochs=(1,))
    words = Page(write_report(run).read_text(encoding="utf-8")).text
    assert ("at least 10 are needed" in words) == (images < 10)
    assert (run / "figures" / "confusion.png").is_file()


def test_evaluations_are_on_the_page_with_the_looks_at_the_test_set(tmp_path, make_run, no_figures):
    run = make_run(tmp_path / "run")
    assert "Looks at these images" not in write_report(run).read_text()
    event = {"event": "test", "split": "test", "path": "/photos", "accuracy": 0.5, "accuracy_interval": [0.4, 0.61]}
    for more in ({"look": 7, "look_runs": 3, "images": 1200}, {"look": 2}, {}, {"accuracy": "x", "look": None}):
        append_line(run / "metrics.jsonl", json.dumps(event | more))
    text = write_report(run).read_text()
    for part in ("look 7, from 3 runs", "look 2 of this run", "not counted", "1,200 images", "unknown"):
        assert part in text
    assert (
        re.search(r"Accuracy 50.00% <span class=.whole.>\[40.00%, 61.00%\]</span>", text) and "test of /photos" in text
    )


def test_a_run_without_epochs_has_a_report(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: young\nmodel:\n  name: vgg13\n")
    words = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "vgg13, trained from scratch, is still running, or interrupted at epoch 0" in words
    assert not (tmp_path / "figures").exists() and "sightline resume RUN continues it" in words


def test_a_folder_that_is_not_a_run_is_an_error(tmp_path):
    with pytest.raises(SightlineError, match="not a run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_number_formats():
    assert [percent(x) for x in (0, 1e-9, 0.5, 0.9996, 1)] == ["0.0", "0.1", "50.0", "99.9", "100.0"]
    assert [duration(x) for x in (4.24, 42, 451, 7500, 3599.7)] == [
        "4.2 s",
        "42 s",
        "7 min 31 s",
        "2 h 05 min",
        "1 h 00 min",
    ]
    assert [si_number(x) for x in (12, 4321, 9.412e6)] == ["12", "4.32 k", "9.41 M"]
    assert epochs_text([3]) == "epoch 3" and epochs_text([1, 2, 9]) == "epochs 1, 2 and 9"
