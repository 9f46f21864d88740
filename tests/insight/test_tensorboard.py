"""The log for TensorBoard, read by TensorBoard's own reader and compared with metrics.jsonl."""

import builtins
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightline
from conftest import BLANK
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine import training_state
from sightline.runs.atomic import read_json_lines
from sightline.runs.log import RunLog
from sightline.tasks.files import typed

pytestmark = pytest.mark.usefixtures("quick_figures")
Points = dict[str, list[tuple[int, float]]]


def read(run: Path) -> Any:
    """TensorBoard's reader of a run's files."""
    why = "tensorboard is not installed: make .venv/.installed-dev"
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=why)
    found = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def shown(run: Path) -> Points:
    """{tag: (step, value) of each point} that TensorBoard shows."""
    found = read(run)
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def logged(run: Path) -> Points:
    """{tag: (step, value) of each point} by the lines of metrics.jsonl."""
    points: Points = {}
    for record in read_json_lines(run / "metrics.jsonl"):
        prefix = {"train": "train", "eval": "val", "done": "final"}.get(record["event"])
        for key in record.keys() - {"step", "epoch", "seconds"} if prefix else ():
            if type(record[key]) in (int, float):
                value = pytest.approx(record[key], rel=1e-6)
                points.setdefault(f"{prefix}/{key}", []).append((record["step"], value))
    return points


def recipe(tiny: dict, **more: object) -> Config:
    values = {"task": "classify", "report.samples": 4, "model.args": {"widths": [8, 16, 16], "hidden": 32}}
    return typed(resolve(Config(name="t"), tiny | values | {"optim.lr": 0.01, "optim.ema": 0} | more))


def test_every_number_of_a_classifier_and_its_report(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(recipe(tiny), photos, out=tmp_path / "run", quiet=True, **{"train.log": "tensorboard"})
    assert shown(run.path) == logged(run.path)
    assert {"train/loss", "train/lr", "val/accuracy", "final/accuracy"} <= shown(run.path).keys()
    found = read(run.path)
    assert {path.stem for path in (run.path / "figures").glob("*.png")} == set(found.Tags()["images"]) > {"confusion"}
    shapes = {(image.width, image.height) for name in found.Tags()["images"] for image in found.Images(name)}
    assert shapes == {(1, 1)} and found.Images("confusion")[0].encoded_image_string == BLANK
    (text,) = found.Tensors("report/text_summary")
    assert text.tensor_proto.string_val[0].decode() == str(run.report.resolve())


def test_segmentation_and_pretraining(
    make_scenes: Callable[..., Path], photos: Path, tmp_path: Path, toy: Callable, small: Callable
) -> None:
    log = {"train.log": "tensorboard", "train.epochs": 1}
    masks = sightline.train(toy(), make_scenes(tmp_path / "scenes"), out=tmp_path / "masks", quiet=True, **log)
    views = sightline.train(small(), photos, out=tmp_path / "views", quiet=True, **log)
    for run, metric in ((masks, "val/mean_iou"), (views, "val/knn_accuracy")):
        assert shown(run.path) == logged(run.path) and metric in shown(run.path)


class Crash(BaseException):
    """Simulated end of the process."""


def test_a_resumed_run_continues_without_double_points(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves, save = [], training_state.save_state

    def crash_before_the_third_save(training: object) -> None:
        saves.append(1)
        if len(saves) == 3:  # the first is that of step 0, so that the steps of the second epoch are repeated
            raise Crash
        save(training)

    config, run = recipe(tiny, **{"train.log": "tensorboard"}), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(training_state, "save_state", crash_before_the_third_save)
        sightline.train(config, photos, out=run, quiet=True)
    before = shown(run)
    assert before == logged(run) and len(before["val/accuracy"]) == 2
    sightline.resume(run, quiet=True)
    assert shown(run) == logged(run)
    steps = [step for step, _ in shown(run)["train/loss"]]
    assert steps == sorted(set(steps)) and [step for step, _ in shown(run)["val/loss"]] == [7, 14]


def test_a_log_that_begins_with_a_resume_has_the_earlier_steps(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(recipe(tiny), photos, out=tmp_path / "run", quiet=True)
    assert not (run.path / "tensorboard").exists()
    sightline.resume(run, quiet=True, **{"train.epochs": 3, "train.log": "tensorboard"})
    assert shown(run.path) == logged(run.path) and len(shown(run.path)["val/loss"]) == 3
    sightline.train(recipe(tiny), photos, out=run.path, overwrite=True, quiet=True, **{"train.epochs": 1})
    assert not (run.path / "tensorboard").exists(), "it belongs to the run that was replaced"


def test_a_missing_package_is_an_error_before_the_data_are_read(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any) -> Any:
        if "tensorboard" in name and "insight" not in name:
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SightlineError, match="needs the package tensorboard") as caught:
        sightline.train(recipe(tiny, **{"train.log": "tensorboard"}), photos, out=tmp_path / "run", quiet=True)
    assert "pip install 'sightline-vision[tensorboard]'" in caught.value.cure and caught.value.where == "train.log"
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_failed_write_is_one_warning_and_the_run_continues(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Full:
        def event(self, record: dict[str, Any]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            raise AssertionError("it is used no more")

    with RunLog(tmp_path, quiet=True) as log:
        log.trackers.append(Full())
        log.event("start", step=0, epoch=0)
        log.event("train", step=1, epoch=1)
    assert len(read_json_lines(log.path)) == 2
    assert capsys.readouterr().err.count("No space left on device") == 1
