"""The size of a page, its number of images, and the replacement of home folders."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.report.html import element, png_uri, without_home
from sightline.report.page import write_report
from sightline.report.sections import part_of


@pytest.fixture
def run(tmp_path: Path, make_run, no_figures) -> Path:
    """A run of thirty images, six of them misclassified."""
    folder = make_run(tmp_path / "run", images=30, epochs=(1,))
    shutil.rmtree(folder / "snapshots" / "epoch-00001")  # maps take time
    return folder


def keep(path: Path, count: int) -> None:
    """Keep the first images of a file."""
    with np.load(path) as arrays:
        first = {name: array[:count] for name, array in arrays.items()}
    np.savez(path, **first)


def test_a_page_has_its_size_and_its_number_of_images(run: Path) -> None:
    path = write_report(run)
    text = path.read_text(encoding="utf-8")
    found = re.search(r"This page has ([\d.]+) MB\. ([^<]*)<", text)
    assert found and float(found[1]) == pytest.approx(path.stat().st_size / 1e6, abs=0.051)
    assert found[2] == "It shows all 30 validation images; all 6 misclassified images."
    keep(run / "snapshots" / "samples.npz", 10)
    keep(run / "snapshots" / "mistakes.npz", 3)
    text = write_report(run).read_text(encoding="utf-8")
    assert (
        "It shows 10 of 30 validation images; 3 of 6 misclassified images, those with the highest confidence." in text
    )
    shutil.rmtree(run / "snapshots")
    assert re.search(r"This page has [\d.]+ MB\.<", write_report(run).read_text(encoding="utf-8"))
    assert part_of(2500, 1_000_000) == "2,500 of 1,000,000" and part_of(3, 0) == "3"


HOMES = ["/srv/people/ann", "/home/bob", "/Users/eve", "/root", "C:\\Users\\joe"]


@pytest.mark.parametrize("home", HOMES)
def test_home_folders_are_not_on_the_page(run: Path, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home folder of this user, and those of a run from another machine."""
    monkeypatch.setenv("HOME", HOMES[0])
    slash = "\\" if "\\" in home else "/"
    data = slash.join([home, "my photos"])
    provenance = json.loads((run / "provenance.json").read_text())
    provenance |= {"command": ["sightline", "train", "x", "--data", data, f"--model.weights={home}{slash}w.pt"]}
    provenance |= {"notes": [f"read {home}{slash}a.png, {home}"], "data": provenance["data"] | {"path": data}}
    provenance |= {
        "resumes": [{"command": ["sightline", "resume", f"{home}{slash}run"], "step": 1, "changed": {"data": data}}]
    }
    (run / "provenance.json").write_text(json.dumps(provenance))
    recipe = (run / "recipe.yaml").read_text().replace("path: photos", f"path: {data}")
    (run / "recipe.yaml").write_text(recipe)
    text = write_report(run).read_text(encoding="utf-8")
    assert home not in text and f"~{slash}my photos" in text and f"--model.weights=~{slash}w.pt" in text
    assert home in (run / "recipe.yaml").read_text(), "the files of the run keep complete paths"


def test_only_whole_home_folders_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/ann")
    assert without_home("/srv/people/ann-two/x /mnt/srv/people/ann/x") == "/srv/people/ann-two/x /mnt/srv/people/ann/x"
    assert without_home("'/srv/people/ann': /home/bob/x") == "'~': ~/x"
    monkeypatch.setenv("HOME", "/")
    assert without_home("/a/b") == "/a/b", "the home folder of a container"
    uri = png_uri(b"\xff\xae\x8a-") + "/home/bob/"
    assert element("img", src=uri) == f'<img src="{uri}">', "URLs are unchanged"
