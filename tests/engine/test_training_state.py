"""Checkpoints during training, with disks whose writes fail temporarily or permanently."""

import errno
import importlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.errors import ENVIRONMENT, USER
from sightline.runs import atomic, checkpoint
from sightline.runs.atomic import TEMPORARY, read_json_lines
from sightline.runs.deferred_writes import DeferredWrites

pytestmark = pytest.mark.usefixtures("quick_figures")

loop = importlib.import_module("sightline.train")  # `sightline.train` is the function


def config(tiny: dict, **more: object) -> Config:
    """Three epochs of seven steps, saved after each step, with a weight average and an ensemble."""
    values = tiny | {"train.epochs": 3, "train.checkpoint_minutes": 0, "train.ensemble": 2, "report.samples": 4}
    values |= {"optim.lr": 0.05, "optim.ema": 0.9, "model.args": {"widths": [4, 8, 8], "hidden": 8}}
    return resolve(Config(name="t"), values | more)


@pytest.fixture(scope="module")
def untroubled(photos: Path, tmp_path_factory: pytest.TempPathFactory, tiny: dict) -> Path:
    return sightline.train(config(tiny), photos, out=tmp_path_factory.mktemp("untroubled") / "run", quiet=True).path


class Disk:
    """Make `os.CALL` raise OSError(number) after the steps in `bad`; `failed` has the files of these calls."""

    def __init__(self, patch: pytest.MonkeyPatch, bad: Collection[int], call: str, number: int):
        self.bad: Collection[int] = bad
        self.number, self.failing = number, False
        self.failed: list[str] = []
        self.after_step: Callable[[Any], None] = lambda training: None  # called before the save of the step
        real, log_step = getattr(os, call), loop.log_step

        def faulty_call(*arguments: object) -> None:
            if self.failing:
                handle = arguments[0]
                self.failed.append(os.readlink(f"/proc/self/fd/{handle}") if isinstance(handle, int) else str(handle))
                raise OSError(self.number, os.strerror(self.number))
            real(*arguments)

        def after_step(training: Any, *arguments: Any) -> None:
            log_step(training, *arguments)
            self.failing = training.progress.step in self.bad
            self.after_step(training)

        patch.setattr(os, call, faulty_call)
        patch.setattr(loop, "log_step", after_step)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    yield lambda bad, call="replace", number=errno.ENOSPC: Disk(monkeypatch, bad, call, number)


def state_step(run: Path) -> int:
    """The step of the newest saved state."""
    return checkpoint.load_state(run / "checkpoints" / "last")[1]["progress"]["step"]


def saved_weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of all checkpoints of a run, by the name of the checkpoint folder."""
    return {path.parent.name: load_file(path) for path in (run / "checkpoints").glob("*/model.safetensors")}


def same(first: Path, second: Path) -> bool:
    """Whether the weights of all checkpoints of two runs are bit-identical."""
    one, other = saved_weights(first), saved_weights(second)
    equal = [torch.equal(one[name][key], other[name][key]) for name in one.keys() & other for key in one[name]]
    return one.keys() == other.keys() and len(one) == 4 and all(equal)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the paths of open files from /proc")
@pytest.mark.parametrize(("call", "number"), [("replace", errno.ENOSPC), ("fsync", errno.EIO)])
def test_temporary_disk_errors_do_not_change_the_run(
    call: str, number: int, disk, photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd
) -> None:
    """Failing steps: 6; 7 and 14, which end epochs and write weights, ensemble and snapshots."""
    run, found = tmp_path / "run", {}
    faulty = disk([6, 7, 14], call, number)

    def look(training) -> None:
        if training.progress.step in (8, 9):
            found[training.progress.step] = state_step(run), (run / "checkpoints/best/model.safetensors").exists()

    faulty.after_step = look
    sightline.train(config(tiny), photos, out=run, quiet=True)
    assert found == {8: (5, False), 9: (8, True)}, "a state is saved after all files that it refers to"
    assert same(run, untroubled)
    assert not list(run.rglob(f"{TEMPORARY}*"))
    snapshots = [sorted(path.name for path in (each / "snapshots").glob("epoch-*")) for each in (run, untroubled)]
    assert snapshots[0] == snapshots[1] and len(snapshots[0]) == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.partition("Step ")[2].partition(" ")[0] for line in warnings] == ["6", "7", "14"]
    assert all(os.strerror(number) in line and "training continues" in line for line in warnings)
    assert all("it needs" in line and "MB are free" in line for line in warnings) or number != errno.ENOSPC
    written = [name for name in faulty.failed if TEMPORARY in name]
    assert written and len(written) == len(set(written)), "files are written again, not flushed a second time"


def test_the_third_failed_save_in_a_row_ends_the_run(
    disk, photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd
) -> None:
    faulty = disk([2, 3, 9, *range(11, 99)])  # a successful save resets the number of failures in a row
    with pytest.raises(SightlineError, match="3 times in a row") as caught:
        sightline.train(config(tiny), photos, out=tmp_path / "run", quiet=True)
    assert caught.value.status == ENVIRONMENT and f"sightline resume {tmp_path / 'run'}" in caught.value.cure
    assert "it needs" in caught.value.why and "MB are free" in caught.value.why
    assert state_step(tmp_path / "run") == 10 and capfd.readouterr().err.count("training continues") == 5
    faulty.bad = range(0)
    faulty.failing = False
    sightline.resume(tmp_path / "run", quiet=True)
    assert same(tmp_path / "run", untroubled)


@pytest.mark.parametrize("end", ["last", "stopped", "between"])
def test_the_last_save_of_a_run_is_not_deferred(end: str, disk, photos: Path, tmp_path: Path, tiny: dict) -> None:
    """At the end of training; after a signal within an epoch; after a signal while the save of an epoch fails."""
    faulty = disk({"last": [21], "stopped": [10], "between": [7]}[end])

    def ask(training) -> None:
        if training.progress.step in faulty.bad and end != "last":
            training.stop.requested = True

    faulty.after_step = ask
    settings = {"train.checkpoint_minutes": 5}
    with pytest.raises(SightlineError, match="cannot write") as caught:
        sightline.train(config(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert caught.value.status == ENVIRONMENT and "cannot be retried later" in caught.value.why
    assert "interrupted" not in caught.value.what, "that message would mean that the state is saved"
    assert state_step(tmp_path / "run") == {"last": 14, "stopped": 7, "between": 0}[end]


def test_a_write_that_succeeds_when_repeated_is_a_warning(
    photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write of the best weights fails; it is repeated before the state of the same epoch is saved."""
    rename_into_place, failed = atomic.rename_into_place, []

    def fail_once(temporary: Path, path: Path, need: int = 0) -> Path:
        if path.parent.name == "best" and not failed:
            failed.append(path)
            raise atomic.disk_error(path, OSError(errno.EIO, os.strerror(errno.EIO)))
        return rename_into_place(temporary, path, need)

    monkeypatch.setattr(atomic, "rename_into_place", fail_once)
    sightline.train(config(tiny), photos, out=tmp_path / "run", quiet=True)
    error = capfd.readouterr().err
    assert failed and "files that could not be written before, and the state of step 7, are saved now" in error
    assert same(tmp_path / "run", untroubled)
    events = [record["event"] for record in read_json_lines(tmp_path / "run" / "metrics.jsonl")]
    assert events[-1] == "done"


def test_deferred_writes_copy_their_content_and_precede_removals(tmp_path: Path) -> None:
    deferred, written, weight = DeferredWrites(), [], torch.zeros(2)
    failing = [True]

    def write(content: dict) -> None:
        if failing:
            raise SightlineError("full", status=ENVIRONMENT)
        written.append(content["w"].tolist())

    (tmp_path / "epoch-1").mkdir()
    deferred.write(tmp_path / "epoch-2", write, {"w": weight})
    deferred.remove(tmp_path / "epoch-1")
    weight += 1
    with pytest.raises(SightlineError, match="full"):
        deferred.flush()
    assert (tmp_path / "epoch-1").is_dir() and len(deferred.writes) == 2
    failing.clear()
    deferred.flush()
    assert written == [[0.0, 0.0]] and not deferred.writes and not (tmp_path / "epoch-1").exists()
    deferred.remove(tmp_path / "never")
    failing.append(True)
    deferred.write(tmp_path / "epoch-3", write, {"w": weight})
    deferred.remove(tmp_path / "epoch-3")
    deferred.flush()
    assert written == [[0.0, 0.0]], "a removal cancels a deferred write of the same path"


def test_only_disk_errors_are_deferred() -> None:
    def write(content: dict) -> None:
        raise SightlineError("the state holds NaN", status=USER)

    with pytest.raises(SightlineError, match="NaN"):
        DeferredWrites().write(Path("x"), write, {})
