"""What is saved while a run goes on, and a disk that refuses it for a while or for good."""

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
    """Three epochs of seven steps, saved after each; a weight average and an ensemble, which are files of their own."""
    values = tiny | {"train.epochs": 3, "train.checkpoint_minutes": 0, "train.ensemble": 2, "report.samples": 4}
    values |= {"optim.lr": 0.05, "optim.ema": 0.9, "model.args": {"widths": [4, 8, 8], "hidden": 8}}
    return resolve(Config(name="t"), values | more)


@pytest.fixture(scope="module")
def untroubled(photos: Path, tmp_path_factory: pytest.TempPathFactory, tiny: dict) -> Path:
    return sightline.train(config(tiny), photos, out=tmp_path_factory.mktemp("untroubled") / "run", quiet=True).path


class Disk:
    """After a step in `bad` it refuses every write, with an error in one of the calls; `refused` has their files."""

    def __init__(self, patch: pytest.MonkeyPatch, bad: Collection[int], call: str, number: int):
        self.bad: Collection[int] = bad
        self.number, self.full = number, False
        self.refused: list[str] = []
        self.at: Callable[[Any], None] = lambda training: None  # once a step is done, before its save
        real, note = getattr(os, call), loop.log_step

        def refusing(*arguments: object) -> None:
            if self.full:
                handle = arguments[0]
                self.refused.append(os.readlink(f"/proc/self/fd/{handle}") if isinstance(handle, int) else str(handle))
                raise OSError(self.number, os.strerror(self.number))
            real(*arguments)

        def noted(training: Any, *arguments: Any) -> None:
            note(training, *arguments)
            self.full = training.progress.step in self.bad
            self.at(training)

        patch.setattr(os, call, refusing)
        patch.setattr(loop, "log_step", noted)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    yield lambda bad, call="replace", number=errno.ENOSPC: Disk(monkeypatch, bad, call, number)


def state_step(run: Path) -> int:
    """The step of the newest state on the disk."""
    return checkpoint.load_state(run / "checkpoints" / "last")[1]["progress"]["step"]


def saved_weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All weights that a run leaves, by the name of their folder."""
    return {path.parent.name: load_file(path) for path in (run / "checkpoints").glob("*/model.safetensors")}


def same(first: Path, second: Path) -> bool:
    """Whether two runs have left the same weights, to the bit."""
    one, other = saved_weights(first), saved_weights(second)
    equal = [torch.equal(one[name][key], other[name][key]) for name in one.keys() & other for key in one[name]]
    return one.keys() == other.keys() and len(one) == 4 and all(equal)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="sees open files through /proc")
@pytest.mark.parametrize(("call", "number"), [("replace", errno.ENOSPC), ("fsync", errno.EIO)])
def test_a_disk_that_refuses_for_a_while_costs_nothing(
    call: str, number: int, disk, photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd
) -> None:
    """The steps 6 and 7, which ends an epoch with weights, ensemble and snapshots, and 14, which ends the next."""
    run, found = tmp_path / "run", {}
    faulty = disk([6, 7, 14], call, number)

    def look(training) -> None:
        if training.progress.step in (8, 9):
            found[training.progress.step] = state_step(run), (run / "checkpoints/best/model.safetensors").exists()

    faulty.at = look
    sightline.train(config(tiny), photos, out=run, quiet=True)
    assert found == {8: (5, False), 9: (8, True)}, "the old state stands until all that the new one tells of is there"
    assert same(run, untroubled)
    assert not list(run.rglob(f"{TEMPORARY}*"))
    snapshots = [sorted(path.name for path in (each / "snapshots").glob("epoch-*")) for each in (run, untroubled)]
    assert snapshots[0] == snapshots[1] and len(snapshots[0]) == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.partition("Step ")[2].partition(" ")[0] for line in warnings] == ["6", "7", "14"]
    assert all(os.strerror(number) in line and "training continues" in line for line in warnings)
    assert all("it needs" in line and "MB are free" in line for line in warnings) or number != errno.ENOSPC
    written = [name for name in faulty.refused if TEMPORARY in name]
    assert written and len(written) == len(set(written)), "each is written anew, none is synced a second time"


def test_the_third_refusal_in_a_row_ends_the_run(
    disk, photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd
) -> None:
    faulty = disk([2, 3, 9, *range(11, 99)])  # the first two in a row are forgotten once a save succeeds
    with pytest.raises(SightlineError, match="3 times in a row") as caught:
        sightline.train(config(tiny), photos, out=tmp_path / "run", quiet=True)
    assert caught.value.status == ENVIRONMENT and f"sightline resume {tmp_path / 'run'}" in caught.value.cure
    assert "it needs" in caught.value.why and "MB are free" in caught.value.why
    assert state_step(tmp_path / "run") == 10 and capfd.readouterr().err.count("training continues") == 5
    faulty.bad = range(0)
    faulty.full = False
    sightline.resume(tmp_path / "run", quiet=True)
    assert same(tmp_path / "run", untroubled)


@pytest.mark.parametrize("end", ["last", "stopped", "between"])
def test_the_last_save_of_a_run_is_not_put_off(end: str, disk, photos: Path, tmp_path: Path, tiny: dict) -> None:
    """At the end of training; asked to stop within an epoch; asked to stop while the end of an epoch is refused."""
    faulty = disk({"last": [21], "stopped": [10], "between": [7]}[end])

    def ask(training) -> None:
        if training.progress.step in faulty.bad and end != "last":
            training.stop.requested = True

    faulty.at = ask
    settings = {"train.checkpoint_minutes": 5}
    with pytest.raises(SightlineError, match="cannot write") as caught:
        sightline.train(config(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert caught.value.status == ENVIRONMENT and "cannot be deferred" in caught.value.why
    assert "interrupted" not in caught.value.what, "which would say that it is saved"
    assert state_step(tmp_path / "run") == {"last": 14, "stopped": 7, "between": 0}[end]


def test_what_is_refused_at_first_and_taken_again_is_said(
    photos: Path, untroubled: Path, tmp_path: Path, tiny: dict, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights alone, once: they are written again before the state of the same epoch."""
    rename_into_place, refused = atomic.rename_into_place, []

    def once(temporary: Path, path: Path, need: int = 0) -> Path:
        if path.parent.name == "best" and not refused:
            refused.append(path)
            raise atomic.disk_error(path, OSError(errno.EIO, os.strerror(errno.EIO)))
        return rename_into_place(temporary, path, need)

    monkeypatch.setattr(atomic, "rename_into_place", once)
    sightline.train(config(tiny), photos, out=tmp_path / "run", quiet=True)
    error = capfd.readouterr().err
    assert refused and "earlier writes of this run had failed; they and step 7 are saved now" in error
    assert same(tmp_path / "run", untroubled)
    ends = [record["event"] for record in read_json_lines(tmp_path / "run" / "metrics.jsonl")]
    assert ends[-1] == "done"


def test_what_waits_is_a_copy_and_what_it_replaces_stays(tmp_path: Path) -> None:
    waiting, found, weight = DeferredWrites(), [], torch.zeros(2)
    refuses = [True]

    def write(content: dict) -> None:
        if refuses:
            raise SightlineError("full", status=ENVIRONMENT)
        found.append(content["w"].tolist())

    (tmp_path / "epoch-1").mkdir()
    waiting.write(tmp_path / "epoch-2", write, {"w": weight})
    waiting.remove(tmp_path / "epoch-1")
    weight += 1
    with pytest.raises(SightlineError, match="full"):
        waiting.flush()
    assert (tmp_path / "epoch-1").is_dir() and len(waiting.writes) == 2
    refuses.clear()
    waiting.flush()
    assert found == [[0.0, 0.0]] and not waiting.writes and not (tmp_path / "epoch-1").exists()
    waiting.remove(tmp_path / "never")
    refuses.append(True)
    waiting.write(tmp_path / "epoch-3", write, {"w": weight})
    waiting.remove(tmp_path / "epoch-3")
    waiting.flush()
    assert found == [[0.0, 0.0]], "what is no longer wanted is not written"


def test_only_the_disk_is_waited_for() -> None:
    def write(content: dict) -> None:
        raise SightlineError("the state holds NaN", status=USER)

    with pytest.raises(SightlineError, match="NaN"):
        DeferredWrites().write(Path("x"), write, {})
