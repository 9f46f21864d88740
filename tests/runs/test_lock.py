"""Lock of a run folder: a second run is an error that names the first; ended processes hold no lock."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sightline.errors import ENVIRONMENT, SightlineError
from sightline.runs import lock
from sightline.runs.lock import acquire, lock_output, lock_run

fcntl = pytest.importorskip("fcntl", reason="needs the locks of Unix")

HOLDER = """
    import os, pathlib, sys
    from sightline.runs.lock import lock_run
    with lock_run(pathlib.Path(sys.argv[1])):
        if not os.fork():  # printed by the child, which has closed its copy of the lock
            print("held", flush=True)
        sys.stdin.read()
"""


def test_a_second_run_is_an_error_and_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    """The first run forks a process that still runs after the run is killed."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(Path(lock.__file__).parents[2])}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=env) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(SightlineError, match="another run") as caught, lock_run(tmp_path):
            pass
        assert f"process {process.pid} on " in caught.value.why and f"kill {process.pid}" in caught.value.cure
        process.kill()
        process.wait()
        with lock_run(tmp_path) as note:  # the forked process still runs
            assert note is None
            assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()


def test_the_lock_holds_within_one_process_and_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with lock_run(folder), pytest.raises(SightlineError, match="another run"), lock_run(folder):
        pass
    with pytest.raises(ZeroDivisionError), lock_run(folder):
        raise ZeroDivisionError
    with lock_run(folder), lock_run(tmp_path / "other"):
        pass


def test_the_lock_of_an_output_is_beside_it_and_removed_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.csv"
    with lock_output(target), lock_output(tmp_path / "other.csv"):
        with pytest.raises(SightlineError, match="another command is writing this output") as caught:
            lock_output(target).__enter__()
        assert caught.value.where == str(target) and f"process {os.getpid()} on " in caught.value.why
        target.write_text("")
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock_run(tmp_path) as note:
        assert note and "does not support locks" in note


def test_a_run_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(SightlineError) as caught, lock_run(tmp_path / "run"):
        pass
    assert caught.value.status == ENVIRONMENT


def test_an_error_before_the_first_file_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="wrong"), lock_run(tmp_path / "runs" / "new"):
        raise SightlineError("wrong")
    assert not (tmp_path / "runs" / "new").exists()
    with lock_run(tmp_path / "kept"):
        (tmp_path / "kept" / "recipe.yaml").write_text("{}")
    assert (tmp_path / "kept" / ".lock").exists()


def test_a_removed_lock_file_cannot_be_locked(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    path.unlink()
    with pytest.raises(SightlineError, match="another run"):
        acquire(descriptor, path)
    os.close(descriptor)


class Msvcrt:
    """The function `locking` of Windows, on POSIX locks of whole files."""

    LK_NBLCK = 2

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (self.LK_NBLCK, 1, lock.LOCKED_BYTE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error


def test_locks_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", Msvcrt())
    with lock_run(tmp_path / "new") as note:
        assert note is None
        with pytest.raises(SightlineError, match="another run") as caught, lock_run(tmp_path / "new"):
            pass
        assert f"process {os.getpid()} on " in caught.value.why
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(lock, "msvcrt", None)
    with lock_run(tmp_path) as note:
        assert note and "does not support locks" in note
