"""Looks at test sets are counted per data set, across runs, commands, processes and copies of the data."""

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sightline
from config_toys import configured
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.data.sources.libraries import open_digits
from sightline.data.test_ledger import TestImages, append, ledger_folder, record, register
from sightline.runs.atomic import read_json_lines
from sightline.tasks.segment.score import score
from source_toys import opened

pytestmark = pytest.mark.usefixtures("no_reports")

Make = Callable[..., Path]


def test_looks_are_counted_across_runs_and_copies_of_the_data(make_photos: Make, tmp_path: Path) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=2, val=1, test=2)
    key = register(opened(data), "test")
    shutil.copytree(data, tmp_path / "moved")
    assert register(opened(tmp_path / "moved"), "test") == key
    runs = [tmp_path / "runs" / "a", tmp_path / "elsewhere" / "b", None]
    looks = [record([key], "evaluate", runs[index], ["x"]) for index in (0, 0, 1, 2)]
    assert looks == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert str(looks[2]) == "look 3 at this test set, from 2 runs" and str(looks[0]).endswith("from 1 run")
    image = data / "test/class_0/20000.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert register(opened(data), "test") != key, "another image of the same name and size"
    assert register(opened(make_photos(tmp_path / "val", classes=2, train=2, val=1)), "val") != key


def test_files_are_found_by_their_path_through_links(make_photos: Make, make_scenes: Make, tmp_path: Path) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=2, val=1, test=2)
    key = register(opened(data), "test")
    (tmp_path / "link").symlink_to(data)
    seen = TestImages()
    for path in (data / "test/class_0/20000.png", tmp_path / "link/test/class_1/20001.png", data / "test/new.png",
                 data / "val/class_0/10000.png", tmp_path / "20000.png"):  # fmt: skip
        seen.add(str(path))
    assert seen.found == {key: 2} and seen.keys == [key]
    assert TestImages().record("predict", None, []) == "", "no test image, no look"


def test_a_look_has_its_own_number_even_if_another_follows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(log: Path, line: dict[str, Any]) -> None:
        append(log, line)
        append(log, line | {"look": "another process"})

    monkeypatch.setattr("sightline.data.test_ledger.append", twice)
    assert record(["key"], "evaluate", None, []) == (1, 0) and record(["key"], "evaluate", None, []) == (3, 0)


def test_processes_that_look_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    key = register(open_digits(configured({"data.path": "sklearn:digits"}).data, 0), "val")

    def look() -> None:
        with ThreadPoolExecutor(4) as pool:
            numbers = [
                look.number for look in pool.map(lambda _: record([key], "evaluate", None, []), range(8)) if look
            ]
        (tmp_path / f"{min(numbers)}").write_text(" ".join(map(str, numbers)))

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=look) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    numbers = [int(number) for path in tmp_path.iterdir() for number in path.read_text().split()]
    assert sorted(numbers) == [*range(1, 25)]


def tiny_run(data: Path, out: Path, tiny: dict[str, object]) -> Path:
    return sightline.train(resolve(Config(name="t"), tiny | {"train.epochs": 1}), data, out=out, quiet=True).path


def test_evaluate_and_predict_on_test_files_count_for_all_runs(
    make_photos: Make, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_photos(tmp_path / "data", test=4)
    runs = [tiny_run(data, tmp_path / name / "run", tiny) for name in "ab"]
    sightline.predict(runs[0], data / "test", out=tmp_path / "1.csv")
    assert "16 test files: this is look 1 at this test set, from 1 run" in capsys.readouterr().out
    found = sightline.evaluate(runs[1], split="test")
    assert (found["look"], found["look_runs"]) == (2, 2)
    assert "this is look 2 at this test set, from 2 runs; if you choose" in capsys.readouterr().out
    sightline.predict(runs[0], data / "val", out=tmp_path / "2.csv")
    assert "look" not in capsys.readouterr().out, "validation images are no test images"
    sightline.predict(runs[0], [data / "val", data / "test/class_0/20001.png"], out=tmp_path / "3.csv", quiet=True)
    assert sightline.evaluate(runs[0], data=data / "test", quiet=True)["look"] == 4, "the same images by another path"
    (log,) = ledger_folder().glob("*.jsonl")
    commands = [line["command"] for line in read_json_lines(log) if "look" in line]
    assert commands == ["predict", "evaluate", "predict", "evaluate"]
    assert sightline.cache(clear=True) and log.is_file(), "the ledger is no cache"


def test_a_ledger_that_cannot_be_written_does_not_cost_the_result(
    make_photos: Make, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = make_photos(tmp_path / "data", test=1)
    (tmp_path / "file").touch()
    monkeypatch.setattr("sightline.data.test_ledger.ledger_folder", lambda: tmp_path / "file" / "looks")
    run = sightline.train(resolve(Config(name="t"), tiny | {"train.epochs": 1}), data, out=tmp_path / "run").path
    assert "looks at the test split by `predict` and `score` are not counted" in capsys.readouterr().err
    found = sightline.evaluate(run, split="test")
    assert "look" not in found and found["images"] == 4
    assert "warning: this look at the test set is not counted: cannot write" in capsys.readouterr().out


def test_predicted_masks_and_scores_of_test_images_count(
    make_scenes: Make, toy: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_scenes(tmp_path / "scenes", train=4, val=2)
    (make_scenes(tmp_path / "more", train=7, val=0) / "train").rename(data / "test")
    for old in {path.name for path in (data / "train").iterdir()}:
        (data / "test" / old).unlink()
    run = sightline.train(toy(**{"train.epochs": 1}), data, out=tmp_path / "run", quiet=True).path
    masks = sightline.predict(run, data / "test", out=tmp_path / "masks")
    assert "3 test files: this is look 1 at this test set, from 1 run" in capsys.readouterr().out
    assert "3 test files: this is look 2 at this test set, from 1 run" in score(data / "test", masks, "landcover").notes
    assert not any("look" in note for note in score(data / "validation", run / "predictions/val", "landcover").notes)
    assert sightline.evaluate(run, split="test", quiet=True)["look"] == 3
