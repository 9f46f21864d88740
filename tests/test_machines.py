"""Operating systems without POSIX: the modules and functions that Windows lacks are removed in a child process."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import BLANK, class_image
from sightline import SightlineError
from sightline.config.paths import relative_path
from sightline.config.schema import Data
from sightline.data import image_cache
from sightline.data.decode import decoding
from sightline.data.parallel import Share
from sightline.data.sources.open import open_source
from sightline.inference.sharded_predict import merge_shards, shard_table
from sightline.segment_anything.outputs import common_folder

LACKING = """
    import base64, importlib, os, sys
    import torch  # needs them on Linux
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None  # its import raises ImportError
    functions = ("fork", "register_at_fork", "sched_getaffinity", "posix_fallocate", "pread", "pwrite", "geteuid",
                 "getuid", "killpg", "setsid")
    for name in functions:
        delattr(os, name)
    import signal
    del signal.SIGKILL, signal.SIGHUP
    from sightline import __main__ as commands
    drawing = importlib.import_module("sightline.report.drawing")
    drawing.drawn = lambda name, draw: base64.b64decode(os.environ["BLANK"])  # figures take most of the time
    for line in sys.argv[1:]:
        status = commands.run(line.split("|"))
        print("status", status, line.split("|")[0], flush=True)
"""


@pytest.mark.slow
def test_commands_run_without_the_modules_that_windows_lacks(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    data, run, table = make_photos(tmp_path / "photos", classes=2, train=4, val=2), tmp_path / "run", tmp_path / "t.csv"
    settings = "--model.name|small_cnn|--train.epochs|1|--train.batch_size|4|--data.size|16|--train.device|cpu"
    lines = [
        f"train|photos_scratch|--data|{data}|--out|{run}|{settings}",
        f"predict|{run}|{data / 'val'}|--out|{table}",
        f"report|{run}",
        f"doctor|{data}|--out|{tmp_path / 'doctor'}",
    ]
    command = [sys.executable, "-c", re.sub(r"(?m)^    ", "", LACKING), *lines]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "BLANK": base64.b64encode(BLANK).decode()}
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    statuses = re.findall(r"status (\d) (\w+)", child.stdout)
    assert statuses == [("0", "train"), ("0", "predict"), ("0", "report"), ("0", "doctor")], child.stdout + child.stderr
    assert "does not support locks" in child.stderr
    assert len(table.read_text(encoding="utf-8").splitlines()) == 5


@pytest.fixture
def like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error if a file that is mapped to memory is renamed, removed or truncated, as Windows does."""

    def guarded(function: Callable[..., Any], path_of: Callable[[Any], Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            name = str(path_of(path))  # relative ones are those of pytest, which removes the folders of other tests
            if os.path.isabs(name) and name in Path("/proc/self/maps").read_text():
                pytest.fail(f"{name} is mapped")
            return function(path, *rest, **named)

        return call

    for name in ("replace", "rename", "unlink", "truncate"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), lambda path: path))
    monkeypatch.setattr(decoding, "write_header", guarded(decoding.write_header, lambda file: file.name))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of mapped files of Linux")
@pytest.mark.usefixtures("like_windows")
def test_mapped_files_are_released_before_they_are_changed(tmp_path: Path) -> None:
    for folder in (tmp_path / "photos" / split / label for split in ("train", "val") for label in "ab"):
        folder.mkdir(parents=True)
        for size in (8, 9):
            class_image(0, size, size).save(folder / f"{size}.png")
    data = Data(path=str(tmp_path / "photos"), cache_dir=str(tmp_path / "cache"))
    decoded = image_cache.decode(open_source(data, 0), "train", 8, data, announce=lambda text: None)
    assert decoded.images.shape[1:] == (3, 8, 8)
    for rank in range(2):
        table = shard_table(tmp_path / "t.csv", ["filename"], Share(rank, 2))
        table.begin({}, overwrite=False)
        table.add([[str(rank)]], np.full((1, 4), rank, np.float32))
        table.finish_share()
    assert merge_shards(tmp_path / "t.csv", ["filename"], Share(0, 2), {})
    assert np.load(tmp_path / "t.features.npy")[:, 0].tolist() == [0, 1]


def test_paths_on_two_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_common_path(*_: Any) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "relpath", no_common_path)
    monkeypatch.setattr(os.path, "commonpath", no_common_path)
    assert relative_path("/d/a.png", "/c") == "/d/a.png"
    with pytest.raises(SightlineError, match="different drives"):
        common_folder(["/c/a.png", "/d/a.png"])


def test_help_is_printed_in_an_old_encoding() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    child = subprocess.run([sys.executable, "-m", "sightline", "--help"], capture_output=True, env=environment)
    assert child.returncode == 0 and b"sightline demo" in child.stdout, child.stderr
