"""The architecture section of a report, from architecture.json; a note if that is missing or invalid."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline
from config_toys import configured
from sightline.config.schema import Config
from sightline.engine import setup
from sightline.insight.architecture.tracing import trace
from sightline.insight.architecture.tree import TIMES, to_json
from sightline.models import build_model
from sightline.report.page import write_report

pytestmark = pytest.mark.usefixtures("quick_figures")


class Section(HTMLParser):
    """The tags and the text of one section, whose tags must be balanced."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.markup = page[page.index('<section id="architecture">') : page.index('<section id="how-it-was-made">')]
        self.feed(self.markup)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Path:
    folder = make_run(tmp_path_factory.mktemp("reports") / "run", images=12, epochs=(1,))
    shutil.rmtree(folder / "snapshots")  # maps take time
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def text_of(model: nn.Module, name: str, size: int = 64) -> str:
    return to_json(trace(model, (3, size, size), name=name))


def resnet() -> nn.Module:
    with torch.device("meta"):
        return build_model("resnet18", 10, 64, {"small_images": False})


def section_of(run: Path) -> Section:
    return Section(write_report(run).read_text(encoding="utf-8"))


def test_the_section_has_totals_a_drawing_and_all_blocks(run: Path) -> None:
    (run / "architecture.json").write_text(text_of(resnet(), "resnet18"), encoding="utf-8")
    section = section_of(run)
    assert f"11,181,642 parameters; 148 M multiply-adds for one image of 3 {TIMES} 64 {TIMES} 64." in section.text
    kinds = [tag for tag, _ in section.tags]
    assert kinds.count("svg") == 3 and kinds.count("details") > 10 and "script" not in kinds
    labels = [attributes["aria-label"] or "" for tag, attributes in section.tags if tag == "svg"]
    assert labels[0].startswith("resnet18, 11.2 M parameters, 148 M multiply-adds: convolution 7")
    rows = re.findall(r'class="entry">(.*?)</(?:summary|div)>', section.markup)
    cells = {
        re.sub("<[^>]*>", "", row.partition("</span>")[0]): re.findall("<span>(.*?)</span>", row)[1:] for row in rows
    }
    assert cells["BasicBlock 1"] == [f"512 {TIMES} 2 {TIMES} 2", "4.72 M", "18.9 M"]
    assert cells["linear head"] == ["10", "5.13 k", "5.12 k"]


def test_numbers_of_repeated_blocks_are_sums(run: Path) -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU()) for _ in range(3)))
    (run / "architecture.json").write_text(to_json(trace(model, (3, 8, 8))), encoding="utf-8")
    section = section_of(run)
    blocks = section.text.partition("Blocks")[2]
    assert f"sequence {TIMES} 3" in blocks and blocks.count("192 4.61 k") == 2


def test_the_drawing_is_markup_that_the_policy_allows(run: Path) -> None:
    (run / "architecture.json").write_text(text_of(resnet(), "resnet18"), encoding="utf-8")
    section = section_of(run)
    assert "xmlns" not in section.markup and "//" not in section.markup
    assert not any({"style", "onclick", "onload", "href"} & set(attributes) for _, attributes in section.tags)
    inside = re.findall(r"<svg.*?</svg>", section.markup, re.S)
    assert all('fill="currentColor"' in drawing and "class=" not in drawing for drawing in inside)


def test_the_drawing_is_also_a_file_and_is_written_again(run: Path) -> None:
    (run / "architecture.json").write_text(text_of(resnet(), "resnet18"), encoding="utf-8")
    first, page = write_report(run).read_bytes(), run / "figures" / "architecture.svg"
    drawing = page.read_bytes()
    assert ET.fromstring(drawing).tag.endswith("svg") and b'fill="#ffffff"' in drawing
    page.unlink()
    assert write_report(run).read_bytes() == first and page.read_bytes() == drawing


def test_a_run_without_the_file_has_a_note(run: Path) -> None:
    assert section_of(run).text == "Architecture architecture.json is missing, as in runs of earlier versions."
    assert not (run / "figures" / "architecture.svg").exists()


def hostile() -> dict[str, str]:
    """Invalid texts of architecture.json, by their fault."""
    whole = json.loads(to_json(trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (3, 8, 8))))

    def changed(**values: object) -> str:
        outputs = {"outputs": []} if "children" in values else {}  # otherwise these would be the fault
        return json.dumps(whole | {"model": whole["model"] | outputs | values})

    child = whole["model"]["children"][0]
    deep = child
    for _ in range(150):
        deep = child | {"children": [deep], "outputs": []}
    return {
        "torn": json.dumps(whole)[:-9],
        "list": "[]",
        "older": json.dumps(whole | {"format": 0}),
        "no name": json.dumps({key: value for key, value in whole.items() if key != "name"}),
        "text for a tree": json.dumps(whole | {"model": "<b>"}),
        "role": changed(role="<b>"),
        "negative": changed(parameters=-1),
        "huge": changed(multiply_adds=10**40),
        "float": changed(multiply_adds=1e300),
        "never": changed(repeat=0),
        "bool": changed(parameters=True),
        "nothing": "",
        "source ahead": changed(children=[child | {"inputs": [[3, 0]]}]),
        "source of text": changed(children=[child | {"inputs": [["a", 0]]}]),
        "itself": changed(children=[child | {"inputs": [[0, 0]]}]),
        "output": changed(outputs=[[9, 0]]),
        "shapes": changed(shapes=[[1] * 11]),
        "children": changed(children={"a": 1}),
        "many": changed(children=[child] * 6000),
        "deep": changed(children=[deep]),
        "nested lists": "[" * 100_000,
        "null": changed(children=[None]),
    }


@pytest.mark.parametrize("wrong", hostile())
def test_an_invalid_file_is_a_note(run: Path, wrong: str) -> None:
    (run / "architecture.json").write_text(hostile()[wrong], encoding="utf-8")
    section = section_of(run)
    assert "architecture.json cannot be read" in section.text and "svg" not in [tag for tag, _ in section.tags]
    assert not (run / "figures" / "architecture.svg").exists()


def test_undecodable_bytes_are_a_note(run: Path) -> None:
    (run / "architecture.json").write_bytes(b"\xff\xfe\x00")
    assert "architecture.json cannot be read" in section_of(run).text


def test_names_from_the_file_are_escaped(run: Path) -> None:
    name = '<script>alert("1")</script>'
    text = text_of(resnet(), name).replace('"BasicBlock"', json.dumps("<img src=x onerror=alert(1)>"))
    (run / "architecture.json").write_text(text.replace('"layer1"', '"</svg>"'), encoding="utf-8")
    section = section_of(run)
    assert not {"img", "script"} & {tag for tag, _ in section.tags}
    assert "<img src=x onerror=alert(1)>" in section.text and name in section.text


def train_classifier(data: Path, folder: Path, tiny: dict[str, object]) -> sightline.Run:
    config = configured(tiny | {"train.epochs": 1, "report.samples": 0})
    return sightline.train(config, data, out=folder, quiet=True)


def test_training_writes_it_for_every_task(
    photos: Path,
    make_scenes: Callable[..., Path],
    tiny: dict[str, object],
    toy: Callable[..., Config],
    small: Callable[..., Config],
    tmp_path: Path,
) -> None:
    runs = {"4 logits": train_classifier(photos, tmp_path / "classify", tiny)}
    scenes = make_scenes(tmp_path / "scenes", train=4, val=2)
    runs[f"6 {TIMES} 32 {TIMES} 32 logits"] = sightline.train(
        toy(**{"train.epochs": 1, "report.samples": 0}), scenes, out=tmp_path / "segment", quiet=True
    )
    runs["stop-gradient"] = sightline.train(
        small(**{"train.epochs": 1, "report.samples": 0}), photos, out=tmp_path / "byol", quiet=True
    )
    for expected, run in runs.items():
        parameters = json.loads((run.path / "provenance.json").read_text())["parameters"]
        found = json.loads((run.path / "architecture.json").read_text())
        section = Section(run.report.read_text(encoding="utf-8"))
        assert expected in section.text and (run.path / "figures" / "architecture.svg").is_file()
        total = (
            found["model"]["children"][0]["parameters"] if expected == "stop-gradient" else found["model"]["parameters"]
        )
        assert total == parameters and found["notes"] == []


def test_a_model_that_cannot_be_traced_is_still_trained(
    photos: Path, tiny: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise NotImplementedError("no shapes for <this> one\nand more")

    monkeypatch.setattr(setup, "trace", fails)
    run = train_classifier(photos, tmp_path / "run", tiny)
    section = Section(run.report.read_text(encoding="utf-8"))
    assert "could not be traced" in section.text and "no shapes for <this> one)" in section.text
    assert run.metrics["accuracy"] >= 0 and "and more" not in section.text
