"""Atomic and durable writes: order of the calls, errors at each of them, unusual names, partial log lines."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sightline.errors import ENVIRONMENT, SightlineError
from sightline.runs import atomic
from sightline.runs.atomic import (
    TEMPORARY,
    append_line,
    atomic_write,
    finite,
    process_exists,
    read_json_lines,
    remove_stale_temporaries,
    sha256,
    write_json,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc/self/fd")


def test_content_can_be_bytes_text_or_a_function(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert atomic_write(path, b"\x00\xff") == path and path.read_bytes() == b"\x00\xff"
    assert atomic_write(str(path), "naïve\n").read_text(encoding="utf-8") == "naïve\n"
    atomic_write(path, lambda file: file.write(b"from a function"))
    assert path.read_bytes() == b"from a function"
    assert os.listdir(path.parent) == ["file"]


@needs_proc
def test_order_of_fsync_and_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before the rename, its folder after it, and the parent of each new folder."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(("fsync", "file" if TEMPORARY in name else name))
        fsync(handle)

    def logged_replace(source: Path, target: Path) -> None:
        calls.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    root = str(tmp_path.resolve())
    atomic_write(tmp_path.resolve() / "new" / "deep" / "file", b"x")
    folders = [("fsync", f"{root}/new"), ("fsync", root)]
    assert calls == [*folders, ("fsync", "file"), ("replace", f"{root}/new/deep/file"), ("fsync", f"{root}/new/deep")]


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_a_disk_error_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path = atomic_write(tmp_path / "file", "old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)
    monkeypatch.delattr(Path, "is_mount")  # Python 3.11 has no `is_mount` on Windows
    with pytest.raises(SightlineError) as caught:
        atomic_write(path, "new")
    assert caught.value.status == ENVIRONMENT and caught.value.where == str(path)
    assert os.strerror(number) in caught.value.why
    assert ("MB are free" in caught.value.why) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_an_exception_of_the_function_leaves_the_old_file(tmp_path: Path) -> None:
    path = atomic_write(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError):
        atomic_write(path, lambda file: file.write(b"half") / 0)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@needs_proc
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_without_fsync_of_folders_are_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def files_only(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    assert atomic_write(tmp_path / "new" / "file", "x").read_text() == "x"


@pytest.mark.parametrize("where", ["file/below", "folder", "x" * 300])
def test_invalid_paths_raise_sightline_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SightlineError, match="cannot write") as caught:
        atomic_write(tmp_path / where, "x")
    assert caught.value.status == ENVIRONMENT
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_names_and_texts_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    path = atomic_write(tmp_path / name, f"{name}\n")
    assert path.read_bytes() == b"caf\\udce9.txt\n"
    write_json(tmp_path / "names.json", [name, "字"])
    assert json.loads((tmp_path / "names.json").read_text(encoding="utf-8")) == [name, "字"]  # exact, by a JSON escape
    append_line(tmp_path / "log", json.dumps({"name": name}, ensure_ascii=False))
    assert read_json_lines(tmp_path / "log") == [{"name": name}]


def test_json_has_no_nan_and_no_infinity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "bad.json", {"loss": float("nan")})
    assert not (tmp_path / "bad.json").exists()
    assert finite({"a": [1.5, float("nan"), (float("inf"), True, None)], "b": "x"}) == {
        "a": [1.5, None, [None, True, None]],
        "b": "x",
    }


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=atomic_write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and os.listdir(tmp_path) == ["file"]


# ------------------------------------------------------------------------------------------------------- JSON lines


def test_appending_after_a_partial_line_of_any_length(tmp_path: Path) -> None:
    record = json.dumps({"event": "train", "text": "字 \u2028 \x85 \x0c", "loss": 0.5}, ensure_ascii=False)
    line = record.encode() + b"\n"
    path = tmp_path / "log"
    for length in range(len(line) + 1):
        path.write_bytes(line + line[:length])
        append_line(path, record)
        records = read_json_lines(path)
        complete = length >= len(line) - 1  # only the line feed is missing
        assert records == [json.loads(record)] * (3 if complete else 2), length
    assert path.read_bytes() == line * 3


def test_lines_that_are_not_json_objects_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'\n[1]\n3\n\x00\x00\x00\x00\n\xff\xfe\n{"a": 1}\r\n' + b'{"a":' * 20_000 + b'\n{"b": 2}')
    assert read_json_lines(path) == [{"a": 1}, {"b": 2}]
    assert read_json_lines(tmp_path / "none") == []
    with pytest.raises(SightlineError, match="cannot read the log"):
        read_json_lines(tmp_path)


def test_appending_to_an_invalid_path(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="cannot write") as caught:
        append_line(tmp_path / "none" / "log", "{}")
    assert caught.value.status == ENVIRONMENT


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # example of FIPS 180-4
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ------------------------------------------------------------------------------------------------------ temporaries


def test_only_stale_temporary_files_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    inner = tmp_path / "checkpoints" / "last"
    inner.mkdir(parents=True)
    orphans = [f"{process.pid}-00000000-1", f"{os.getpid()}-00000000-1", "99999999999999999999-a-b"]
    kept = [f"{os.getpid()}-{atomic.PROCESS}-1", f"{os.getppid()}-00000000-1", "x-1", "", "²-1"]
    for name in orphans + kept:
        (inner / f"{TEMPORARY}{name}").write_text("")
    (inner / f"{TEMPORARY}{process.pid}-folder").mkdir()
    (inner / "model.safetensors").write_text("")
    assert remove_stale_temporaries(tmp_path) == len(orphans)
    left = {path.name.removeprefix(TEMPORARY) for path in inner.iterdir()}
    assert left == {*kept, f"{process.pid}-folder", "model.safetensors"}
    assert remove_stale_temporaries(tmp_path / "none") == 0


def test_the_temporary_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from sightline.runs.atomic import atomic_write\n"
        "atomic_write(sys.argv[1], lambda file: (file.write(b'x' * 100_000), file.flush(), os.kill(os.getpid(), 9)))"
    )
    path = tmp_path / "file"
    env = os.environ | {"PYTHONPATH": str(Path(atomic.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code, str(path)], env=env).returncode == -9
    assert not path.exists() and len(os.listdir(tmp_path)) == 1
    assert remove_stale_temporaries(tmp_path) == 1 and os.listdir(tmp_path) == []


def test_process_exists() -> None:
    assert process_exists(os.getpid()) and process_exists(1)
    assert not process_exists(2**22 + 1) and not process_exists(10**30)


def test_on_windows_a_rename_is_repeated_while_the_file_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = os.replace, [PermissionError(errno.EACCES, "Access is denied")] * 3

    def busy(source: Path, target: Path) -> None:
        if failures:
            raise failures.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(SightlineError, match="cannot write"):
        atomic_write(tmp_path / "a", "1")
    monkeypatch.setattr(atomic, "WINDOWS", True)
    atomic_write(tmp_path / "a", "2")
    assert not failures and (tmp_path / "a").read_text() == "2"
    monkeypatch.setattr(atomic, "BUSY_SECONDS", 0.1)
    failures += [PermissionError(errno.EACCES, "Access is denied")] * 100
    with pytest.raises(SightlineError, match="cannot write"):
        atomic_write(tmp_path / "a", "3")


def test_on_windows_no_signal_is_sent_to_ask_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool, int]] = []

    class Kernel:
        def OpenProcess(self, access: int, inherit: bool, process_id: int) -> int:
            asked.append((access, inherit, process_id))
            return {1: 7, 2: 8}.get(process_id, 0)

        def WaitForSingleObject(self, handle: int, milliseconds: int) -> int:
            return {7: 0x102, 8: 0}[handle]

        def CloseHandle(self, handle: int) -> None: ...

    monkeypatch.setattr(atomic, "WINDOWS", True)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: Kernel(), raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 87, raising=False)
    assert [atomic.process_exists(process) for process in (1, 2, 3)] == [True, False, False]
    assert asked == [(0x100000, False, 1), (0x100000, False, 2), (0x100000, False, 3)]
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
    assert atomic.process_exists(3)
