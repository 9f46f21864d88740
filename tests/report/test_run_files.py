import sys

import numpy as np
import pytest

from sightline.errors import SightlineError
from sightline.report.findings import share_intervals
from sightline.report.run import RunFiles, read_run, with_predictions, with_samples
from sightline.stats.intervals import mean_interval, wilson_interval


def read_all(run):
    """Read the files for the report of a classifier."""
    return with_samples(with_predictions(read_run(run)))


def test_a_complete_run_has_no_missing_files(tmp_path, make_run):
    files = read_all(make_run(tmp_path / "run"))
    assert files.missing == () and len(files.classes) == 4 and files.recipe["optim"]["lr"] == 0.25
    assert [snapshot.epoch for snapshot in files.snapshots] == [1, 2, 3, 6]
    assert files.predictions is not None and files.samples is not None and files.mistakes is not None
    wrong = np.flatnonzero(files.predictions.predicted != files.predictions.truth)
    assert wrong.tolist() == files.mistakes.rows.tolist() == list(range(0, 24, 5))


def test_missing_files_are_listed(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    files = read_all(tmp_path)
    named = [line.split(":")[0] for line in files.missing]
    assert sorted(named) == sorted(
        ["provenance.json", "predictions/val.csv", "metrics.jsonl", "snapshots/samples.npz", "snapshots/mistakes.npz",
         "snapshots/epoch-*/features.npz"]
    )  # fmt: skip
    assert files.predictions is None and files.snapshots == () and files.recipe == {"name": "x"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.yaml", b"a: [1"),
        ("recipe.yaml", b"just text"),
        ("provenance.json", b'{"a": '),
        ("provenance.json", b"[]"),
        ("predictions/val.csv", b""),
        ("predictions/val.csv", b"a,b,c,d\n"),
        ("predictions/val.csv", b"filename,label,truth,confidence,cat\nx,cat,dog,0.5,0.5\n"),
        ("predictions/val.csv", b"filename,label,truth,confidence,cat\nx,cat\n"),
        ("predictions/val.csv", b"filename,label,truth,confidence,cat\n"),
        ("snapshots/samples.npz", b"PK\x03\x04 torn"),
        ("snapshots/mistakes.npz", b""),
        ("snapshots/epoch-00006/features.npz", b"\x80\x04N."),
    ],
)
def test_damaged_files_are_listed_and_others_are_read(tmp_path, make_run, name, content):
    run = make_run(tmp_path / "run")
    (run / name).write_bytes(content)
    files = read_all(run)
    assert len(files.missing) == 1 and files.missing[0].startswith(f"{name}: cannot be read")
    assert len(files.classes) == 4


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"GIF89a" + bytes(30)])
def test_an_invalid_preview_is_ignored(tmp_path, make_run, content):
    run = make_run(tmp_path / "run")
    (run / "figures").mkdir()
    (run / "figures" / "preview.png").write_bytes(content)
    files = read_all(run)
    assert files.preview is None and files.missing == ()


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("samples.npz", {"images": np.zeros((2, 3, 0, 4), np.uint8), "index": np.arange(2), "labels": np.arange(2)}),
        ("samples.npz", {"images": np.zeros((2, 3, 4, 4), np.uint8), "index": np.arange(2), "labels": np.arange(3)}),
        ("mistakes.npz", {"images": np.zeros((2, 3, 4, 4), np.uint8), "index": np.zeros((2, 2))}),
        ("epoch-00006/features.npz", {"features": np.zeros((24, 0), np.float16)}),
    ],
)
def test_arrays_of_invalid_shapes_are_listed_and_ignored(tmp_path, make_run, name, arrays):
    run = make_run(tmp_path / "run")
    np.savez(run / "snapshots" / name, **arrays)
    files = read_all(run)
    assert len(files.missing) == 1 and files.missing[0].startswith(f"snapshots/{name}: cannot be read")


def test_a_folder_that_is_not_a_run_is_an_error_with_the_cure(tmp_path, make_run):
    with pytest.raises(SightlineError, match="not a run") as missing:
        read_run(tmp_path / "nowhere")
    assert missing.value.cure
    run = make_run(tmp_path / "runs" / "first")
    with pytest.raises(SightlineError) as parent:
        read_run(tmp_path / "runs")
    assert str(run) in parent.value.cure


def test_of_many_images_the_same_random_part_is_read_from_all_snapshots(tmp_path, make_run, monkeypatch):
    run = make_run(tmp_path / "run")
    every = read_all(run)
    monkeypatch.setattr(sys.modules[RunFiles.__module__], "MOST_POINTS", 10)
    files = read_all(run)
    assert files.samples is not None and every.samples is not None and files.stored == every.stored == 24
    rows = files.samples.rows
    assert len(rows) == 10 and rows.tolist() == sorted(set(rows.tolist())) and rows.tolist() != list(range(10))
    np.testing.assert_array_equal(files.samples.images, every.samples.images[rows])
    np.testing.assert_array_equal(files.samples.labels, every.samples.labels[rows])
    for part, whole in zip(files.snapshots, every.snapshots, strict=True):
        np.testing.assert_array_equal(part.features, whole.features[rows])
        np.testing.assert_array_equal(part.predictions, whole.predictions[rows])
        np.testing.assert_array_equal(part.confidence, whole.confidence[rows])
    assert files.predictions is not None and len(files.predictions.names) == 24, "metrics use all images"
    again = read_all(run).samples
    assert again is not None and again.rows.tolist() == rows.tolist()


def test_intervals_of_classes_are_over_groups() -> None:
    truth = np.repeat([0, 1], 120)
    films = np.repeat(np.arange(24), 10)  # frames of a film have the same error
    correct = np.repeat(np.random.default_rng(0).random(24) < 0.7, 10)
    alone, together = (share_intervals(correct, truth, 3, ids) for ids in (None, films))
    assert alone[0] == pytest.approx(wilson_interval(correct[:120].sum(), 120))
    assert together[0] == pytest.approx(mean_interval(correct[:120], films[:120]))
    assert (np.diff(together[:2]) > 1.8 * np.diff(alone[:2])).all() and np.isnan(together[2]).all()
    assert np.isnan(share_intervals(correct, truth, 2, films // 2)).all(), "six films of each class are too few"
