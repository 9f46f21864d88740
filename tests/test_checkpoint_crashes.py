"""Checkpoints after a crash at every point of a save, and after SIGKILL."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from checkpoint_toys import describe, equal, no_fsync, tensors  # noqa: F401
from sightline.errors import SightlineError
from sightline.runs import atomic, checkpoint
from sightline.runs.checkpoint import load_model, load_state, save_model, save_state


class Killed(BaseException):
    """Simulated end of the process; a BaseException, so that no handler catches it."""


class Disk:
    """Count the calls that change the disk, and fail at the k-th: killed, or full once or from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int, mode: str):
        self.count, self.fail_at, self.mode, self.broken = 0, fail_at, mode, False
        for name in ("replace", "fsync", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self.guarded(getattr(os, name), name))
        monkeypatch.setattr(atomic, "open", self.opened, raising=False)

    def step(self, name: str) -> None:
        self.count += 1
        begins = self.count == self.fail_at
        self.broken |= begins
        if self.mode == "killed" and self.broken:
            raise Killed
        lasting = self.mode == "full from then on" and self.broken and name in ("open", "write", "fsync")
        if begins or lasting:
            raise OSError(errno.ENOSPC, "No space left on device")

    def guarded(self, function, name):
        def call(*args, **kwargs):
            self.step(name)
            return function(*args, **kwargs)

        return call

    def opened(self, path, mode="r", **kwargs):
        if mode[0] not in "wa":
            return open(path, mode, **kwargs)
        self.step("open")
        file = open(path, mode, buffering=0, **kwargs)  # noqa: SIM115
        write = file.write

        def torn(content):
            content = bytes(content)
            try:
                self.step("write")
            except BaseException:
                write(content[: len(content) // 2])
                raise
            return write(content)

        return Proxy(file, torn)


class Proxy:
    """A file with another write()."""

    def __init__(self, file, write):
        self.file, self.write = file, write
        self.flush, self.fileno = file.flush, file.fileno

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.file.close()


def crash_points(folder: Path, mode: str, save):
    """Run `save` on copies of `folder`, failing at its 1st, 2nd, ... disk call, until it succeeds."""
    for k in range(1, 500):
        work = folder.with_name(f"{folder.name}-{k}")
        shutil.copytree(folder, work) if folder.exists() else None
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, k, mode)
            try:
                save(work)
                acknowledged = True
            except (Killed, SightlineError):
                acknowledged = False
        if not disk.broken:
            assert k > 8  # fewer calls would mean that `Disk` no longer sees them
            return
        yield work, acknowledged
        shutil.rmtree(work, ignore_errors=True)


MODES = ["killed", "full once", "full from then on"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saved", [1, 2, 3])
def test_every_crash_point_of_save_state(tmp_path: Path, mode: str, saved: int) -> None:
    before = tmp_path / "last"
    for step in range(1, saved + 1):
        save_state(before, tensors(step), {"step": step})
    for folder, acknowledged in crash_points(before, mode, lambda f: save_state(f, tensors(9), {"step": 9})):
        loaded, values, note = load_state(folder)
        assert values["step"] == 9 if acknowledged else values["step"] in (saved, 9)
        assert equal(loaded, tensors(values["step"])) and note is None
        if mode != "killed":
            assert not list(folder.glob(f"{atomic.TEMPORARY}*"))
        save_state(folder, tensors(10), {"step": 10})
        loaded, values, note = load_state(folder)
        assert values == {"step": 10} and equal(loaded, tensors(10)) and note is None
        assert all((folder / f"{name}.sha256").read_text().count("\n") <= 2 for name in checkpoint.SLOTS)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_state_is_complete_or_absent(tmp_path: Path, mode: str) -> None:
    for folder, acknowledged in crash_points(tmp_path / "new", mode, lambda f: save_state(f, tensors(1), {"step": 1})):
        try:
            assert load_state(folder)[1] == {"step": 1}
        except SightlineError:
            assert not acknowledged


@pytest.mark.parametrize("mode", MODES)
def test_every_crash_point_of_save_model(tmp_path: Path, mode: str) -> None:
    before = tmp_path / "best"
    save_model(before, tensors(1), describe(1))
    for folder, acknowledged in crash_points(before, mode, lambda f: save_model(f, tensors(2), describe(2))):
        loaded, description = load_model(folder)
        step = description["epoch"]
        assert step == 2 if acknowledged else step in (1, 2)
        assert equal(loaded, tensors(step)) and description == describe(step)


KILLS = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from sightline.runs.checkpoint import load_state, save_state
    torch.set_num_threads(1)
    folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
    def tensors(step): return {"w": torch.full((20_000,), float(step)), "n": torch.tensor(step)}
    step = 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            while True:
                step += 1
                save_state(folder, tensors(step), {"step": step})
                os.write(writer, step.to_bytes(8, "little"))
        os.close(writer)
        os.read(reader, 8)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = os.read(reader, 1 << 20)[-8:]
        os.close(reader)
        loaded, values, note = load_state(folder)
        assert note is None and values["step"] >= int.from_bytes(acknowledged, "little"), (values, note)
        assert bool((loaded["w"] == values["step"]).all()) and int(loaded["n"]) == values["step"]
        step = values["step"]
    print("killed", kills)
"""


def test_sigkill_loses_no_acknowledged_state(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLS), str(tmp_path), "12"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert result.stdout == "killed 12\n", result.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
