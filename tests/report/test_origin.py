"""Commands and provenance on the page, also of damaged provenance.json files."""

import json
import re
import shutil

import pytest

from sightline.report.formatting import device
from sightline.report.page import write_report

STRANGE = [None, [], {}, "x", 3, -1.5, True, [[1]], {"a": [None]}]


@pytest.fixture
def run(tmp_path, make_run, no_figures):
    folder = make_run(tmp_path / "run", images=12, epochs=(1,))
    shutil.rmtree(folder / "snapshots")  # maps take time
    return folder


def words_with(run, **changes) -> str:
    """The page's text once provenance.json has these fields."""
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    text = re.sub(r"<(style|script)>.*?</\1>", "", write_report(run).read_text(encoding="utf-8"), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_the_commands_of_a_resumed_run_are_in_order(run):
    resumes = [
        {"command": ["sightline", "resume", "runs/tiny"], "step": 118, "changed": {}, "versions": {"torch": "2.11"}},
        {"command": ["sightline", "resume", "my run"], "step": 1264, "changed": {"train.epochs": [30, 60]},
         "versions": {"torch": "2.12"}},
    ]  # fmt: skip
    words = words_with(run, resumes=resumes, versions={"torch": "2.11"}, train_flops=3.3e12)
    parts = ["Commands, in order", "sightline train tiny", "Resumed after step 118:", "sightline resume runs/tiny",
              "Resumed after step 1,264, with train.epochs 30 → 60; torch 2.11 → 2.12:",
              "sightline resume &#x27;my run&#x27;", "FLOPs of the training, planned 3.3 TFLOPs"]  # fmt: skip
    positions = [words.index(part) for part in parts]
    assert positions == sorted(positions) and "Resumes" not in words


def test_the_flops_of_a_finished_training(run):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "done", "step": 10, "train_flops": 2e9}\n')
    words = words_with(run)
    assert "Command sightline train" in words and "FLOPs of the training, done 2 GFLOPs" in words


@pytest.mark.parametrize("content", ["null", "[]", "{}", "3", '"text"', "{torn"])
def test_provenance_that_is_not_an_object_is_unknown(run, content):
    (run / "provenance.json").write_text(content)
    text = write_report(run).read_text(encoding="utf-8")
    assert "provenance.json is missing or cannot be read" in text and "The command is unknown." in text


def test_fields_of_a_wrong_type_are_unknown_or_unchanged(run):
    before = json.loads((run / "provenance.json").read_text())
    for key in [*before, "resumes", "versions", "train_flops", "weights", "started"]:
        for value in STRANGE:
            words = words_with(run, **before | {key: value})
            assert "How it was made" in words
    for value in STRANGE:
        words_with(run, **before | {"data": before["data"] | {"classes": value, "counts": value, "digest": value}})
        words_with(run, resumes=[value, {"command": value, "step": value, "changed": value, "versions": value}])
    assert "precision unknown" in words_with(run, **before | {"precision": {"a": 1}})


@pytest.mark.parametrize(
    ("name", "threads", "expected"),
    [
        ("AMD EPYC (AVX512)", 1, "AMD EPYC (AVX512), 1 thread"),
        ("Neoverse", None, "Neoverse"),
        ("NVIDIA H200", 16, "NVIDIA H200"),
        (["x"], 2, "unknown, 2 threads"),
    ],
)
def test_the_number_of_threads_appears_once(run, name, threads, expected):
    assert device({"device": name, "threads": threads}) == expected
    assert f"Device {expected} precision" in words_with(run, device=name, threads=threads)
