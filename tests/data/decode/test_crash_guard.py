"""A decoder that crashes ends the program; the next one names the file and leaves it out, whatever command it is."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.data.decode import crash_guard
from sightline.data.decode.images import open_image
from sightline.errors import SightlineError

CRASHES = """
import os, signal, sys
from PIL import ImageFile
real = ImageFile.ImageFile.load
def load(self):
    if "evil" in str(getattr(self, "filename", "")):
        signal.raise_signal(11) if HOW == "signal" else os._exit(7)
    return real(self)
HOW = os.environ.get("HOW", "")
if HOW:
    ImageFile.ImageFile.load = load
"""
READS = """
import sys
from pathlib import Path
from sightline.data.crumbs import laid
from sightline.data.images import open_image
from sightline.errors import SightlineError
with laid(Path(sys.argv[1])):
    for path in sys.argv[2:]:
        try:
            open_image(path, 10**6)
        except SightlineError as error:
            print(error)
"""


@pytest.mark.parametrize("how", ["signal", "exit"])
def test_a_decoder_that_crashes_is_named_at_the_next_start(
    how: str, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    photos = make_photos(tmp_path / "photos", train=2, val=1)
    (photos / "train" / "class_1" / "0.png").rename(photos / "train" / "class_1" / "evil \udcff.png")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path, "HOW": how, "SIGHTLINE_CACHE": str(tmp_path / "cache")}

    def read() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", READS, str(tmp_path / "cache"), *map(str, sorted(photos.rglob("*.png")))]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    assert read().returncode == (-11 if how == "signal" else 7), "the fault did not happen"
    for _ in range(2):  # the second time it is known, and nothing crashes any more
        told = read()
        assert told.returncode == 0, told.stderr
        assert "evil" in told.stdout and ("SIGSEGV" if how == "signal" else "exit status 7") in told.stdout
        assert told.stdout.count("cannot be used") == 1, "all others are read"


def test_what_was_merely_killed_is_not_suspected_for_long(tmp_path: Path, photos: Path) -> None:
    good, root = str(photos / "train" / "class_0" / "0.png"), tmp_path / "cache"
    root.mkdir()
    place = root / f"{crash_guard.READING}999999999-{crash_guard.platform.node()}-ab"
    place.write_bytes(
        good.encode().ljust(crash_guard.SLOT_BYTES, b"\0") + b"/gone.png".ljust(crash_guard.SLOT_BYTES, b"\0")
    )
    with crash_guard.laid(root):
        assert open_image(good, 10**6).size == (16, 16)
        assert len(list(root.iterdir())) == 1, "its own crumbs"
    assert not list(root.iterdir())


def test_a_file_that_was_changed_is_no_longer_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    monkeypatch.setattr(
        crash_guard, "_crashed", {str(path): (crash_guard.stamp(str(path)), "its decoder crashes: at once")}
    )
    with pytest.raises(SightlineError, match="its decoder crashes") as caught:
        open_image(str(path), 10**6)
    assert "on_bad_image" in caught.value.cure
    path.write_bytes(b"xy")
    with pytest.raises(SightlineError, match="not an intact"):
        open_image(str(path), 10**6)


def test_without_a_place_for_crumbs_images_are_read_all_the_same(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "file").write_text("")
    with crash_guard.laid(tmp_path / "file" / "below"):
        assert open_image(str(photos / "train" / "class_0" / "0.png"), 10**6).size == (16, 16)


def test_a_thread_that_ends_first_leaves_the_page_to_the_others(tmp_path: Path) -> None:
    with crash_guard.laid(tmp_path):
        with crash_guard.laid(tmp_path), crash_guard.reading("image.png"):
            assert len(list(tmp_path.iterdir())) == 1
        with crash_guard.reading("later.png"):
            assert b"later.png" in next(tmp_path.iterdir()).read_bytes()
    assert not list(tmp_path.iterdir())


def test_threads_that_come_and_go_read_without_a_fault(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def reads() -> None:
        try:
            for each in range(300):
                with crash_guard.laid(tmp_path), crash_guard.reading(f"{each}.png"):
                    pass
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=reads) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and not list(tmp_path.iterdir())
