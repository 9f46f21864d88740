"""A crash of a decoder ends the process; the next process reports the file and decodes all others."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sightline.data.decode import crash_guard
from sightline.data.decode.images import open_image
from sightline.errors import SightlineError

CRASHES = """
import os, signal
from PIL import ImageFile
real = ImageFile.ImageFile.load
def load(self):
    if "evil" in str(getattr(self, "filename", "")):
        signal.raise_signal(11)
    return real(self)
if os.environ["CRASH"]:
    ImageFile.ImageFile.load = load
"""
DECODE_ALL = """
import sys
from sightline.data.decode.images import open_image
from sightline.errors import SightlineError
for path in sys.argv[1:]:
    try:
        open_image(path, 10**6)
    except SightlineError as error:
        print(error)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files; the crash guard is reset."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(crash_guard, "_page", None)
    monkeypatch.setattr(crash_guard, "_crashing", {})
    return folder


def leave_record(folder: Path, *paths: str) -> Path:
    """Write the file that a process leaves if it ends while it decodes these images."""
    page = folder / f"{crash_guard.PREFIX}999999999-ab"
    page.write_bytes(b"".join(os.fsencode(path).ljust(crash_guard.SLOT_BYTES, b"\0") for path in paths))
    return page


def test_an_image_that_crashed_a_decoder_is_reported_by_the_next_process(photos: Path, temporary: Path) -> None:
    (temporary.parent / "sitecustomize.py").write_text(CRASHES)
    content = (photos / "train" / "class_0" / "0.png").read_bytes()
    paths = [temporary.parent / name for name in ("a.png", "evil \udcff.png", "z.png")]
    for path in paths:
        path.write_bytes(content)
    search = f"{temporary.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": search, "CRASH": "1", "TMPDIR": str(temporary)}

    def decode() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DECODE_ALL, *map(str, paths)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert decode().returncode == -signal.SIGSEGV, "the decoder did not crash"
    for _ in range(2):
        found = decode()
        assert found.returncode == 0, found.stderr
        assert "evil" in found.stdout and "(SIGSEGV)" in found.stdout
        assert found.stdout.count("cannot be used") == 1, "all others are decoded"
        assert "on_bad_image" in found.stdout and len(list(temporary.iterdir())) == 1
    paths[1].write_bytes(b"replaced")
    environment["CRASH"] = ""
    assert "not an intact" in decode().stdout and not list(temporary.iterdir())


def test_images_of_a_killed_process_are_tested_and_decoded(photos: Path, temporary: Path) -> None:
    good = str(photos / "train" / "class_0" / "0.png")
    page = leave_record(temporary, good, "/gone.png")
    assert open_image(good, 10**6).size == (16, 16)
    assert not page.exists() and len(list(temporary.iterdir())) == 1, "the file of this process"


def test_a_decoder_that_exits_is_reported(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    leave_record(temporary, "exits.png")
    with pytest.raises(SightlineError, match="exit status 1"), crash_guard.record_decoding("exits.png"):
        pass


def test_a_decoder_that_hangs_is_reported(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_guard, "TIMEOUT_SECONDS", 0.01)
    leave_record(temporary, "slow.png")
    with pytest.raises(SightlineError, match="takes more than"), crash_guard.record_decoding("slow.png"):
        pass


def test_images_are_decoded_without_a_writable_temporary_folder(
    photos: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    assert open_image(str(photos / "train" / "class_0" / "0.png"), 10**6).size == (16, 16)


def test_each_thread_records_its_own_path(temporary: Path) -> None:
    barrier, found = threading.Barrier(3), []

    def decode(name: str) -> None:
        with crash_guard.record_decoding(name):
            barrier.wait()
            barrier.wait()

    threads = [threading.Thread(target=decode, args=(name,)) for name in ("one.png", "two.png")]
    for thread in threads:
        thread.start()
    barrier.wait()
    found = next(temporary.iterdir()).read_bytes()
    barrier.wait()
    for thread in threads:
        thread.join()
    assert b"one.png" in found and b"two.png" in found
    assert b"\0one.png" not in b"\0" + next(temporary.iterdir()).read_bytes()
