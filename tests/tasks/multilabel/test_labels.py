"""`sightline doctor` on label sets."""

import json
from pathlib import Path

import numpy as np
import pytest

import sightline
from multilabel_toys import square_image, write_quarters, write_table
from sightline import SightlineError
from sightline.__main__ import run as main
from sightline.tasks.multilabel.labels import check_labels

CLASSES = ("badge", "cat", "dog", "owl", "tail")
BADGE, CAT, DOG, OWL, TAIL = range(5)


def sets(*each: tuple[int, ...]) -> np.ndarray:
    return np.array([[index in one for index in range(5)] for one in each])


def test_classes_that_cannot_be_learned_or_told_apart() -> None:
    every = [(BADGE, CAT)] * 4 + [(CAT,)] + [(DOG, TAIL)] * 6 + [(CAT, DOG, TAIL), (OWL,), (), ()]
    train, val = sets(*every[::2]), sets(*every[1::2])
    found = {one.kind: one for one in check_labels({"train": train, "val": val}, CLASSES)}
    assert set(found) == {"label_once", "labels_together", "label_never_alone", "no_label"}
    notes = {kind: [group.note for group in one.groups] for kind, one in found.items()}
    assert notes["label_once"] == ["owl"] and found["label_once"].what == "1 class with a single image"
    assert notes["labels_together"] == ["dog and tail (7 images)"]
    assert notes["label_never_alone"] == ["dog (7 images)", "tail (7 images)"]
    assert found["label_never_alone"].what == "2 classes that never occur alone"
    assert found["no_label"].what == "2 images without any label"
    assert all(one.severity == "warning" and one.cure for one in found.values())


def test_good_label_sets_have_no_finding() -> None:
    every = [(index,) for index in range(5)] * 3 + [(CAT, DOG), (OWL, TAIL)]
    assert check_labels({"train": sets(*every)}, CLASSES) == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Label sets in which red and white occur together only, and green once."""
    (tmp_path / "train").mkdir()
    rows = []
    for number in range(24):
        labels = [["blue"], ["red", "white"], ["blue", "red", "white"]][number % 3] if number else ["green"]
        square_image(labels, number).save(tmp_path / "train" / f"{number}.png")
        rows.append((f"train/{number}.png", labels, "train"))
    return write_table(tmp_path, rows)


def test_the_report_of_the_doctor(data: Path, tmp_path: Path) -> None:
    assert main(["doctor", str(data), "--data.separator", ";", "--out", str(tmp_path / "out"), "--quiet"]) == 5
    facts = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert facts["task"] == "multilabel" and facts["classes"] == ["blue", "green", "red", "white"]
    kinds = {one["kind"]: one for one in facts["findings"]}
    assert {"label_once", "labels_together", "label_never_alone"} <= set(kinds) and "no_label" not in kinds
    assert kinds["labels_together"]["groups"][0]["note"] == "red and white (16 images)"
    page = (tmp_path / "out" / "doctor.html").read_text(encoding="utf-8")
    assert "pair of classes that always occur together" in page and "red and white (16 images)" in page


def test_a_clean_list_keeps_the_label_sets(tmp_path: Path) -> None:
    data = write_quarters(tmp_path / "data", train=24, val=8)
    copied = tmp_path / "data" / "train" / "copy.png"
    copied.write_bytes((tmp_path / "data" / "train" / "0.png").read_bytes())
    text = data.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("train/0.png")]
    data.write_text(text + line.replace("0.png", "copy.png") + "\n")
    clean = tmp_path / "out" / "clean.csv"
    sightline.doctor(data, fix=True, out=tmp_path / "out", quiet=True)
    rows = clean.read_text().splitlines()
    assert len(rows) == 1 + 32 and any(";" in row for row in rows)


def test_the_labels_of_a_run(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="only the labels of a classifier can be checked") as caught:
        sightline.doctor(trained, out=tmp_path / "out", quiet=True)
    assert "multilabel" in caught.value.why and "sightline doctor DATA" in caught.value.cure
