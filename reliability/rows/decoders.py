"""Decoders that crash and end the process: the next command names the file."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from reliability.contract import Outcome, Row, Settings
from reliability.mutants import scene

SITE = """
import os, signal
from PIL import ImageFile
real = ImageFile.ImageFile.load
def load(self):
    if "evil" in str(getattr(self, "filename", "")):
        signal.raise_signal(getattr(signal, HOW)) if HOW.startswith("SIG") else os._exit(7)
    return real(self)
HOW = os.environ.get("RELIABILITY_HOW", "")
if HOW:
    ImageFile.ImageFile.load = load
if os.environ.get("RELIABILITY_NO_TEST"):
    import sightline.data.decode.crash_guard
    sightline.data.decode.crash_guard.check_suspects = lambda: None
"""
HOW = ("SIGSEGV", "SIGABRT", "SIGBUS", "exit")


def check_crashes(settings: Settings) -> Outcome:
    """The first command has to die (or nothing was tried); the second has to name the file, by whatever command."""
    (settings.folder / "sitecustomize.py").write_text(SITE)
    photos, run = settings.folder / "photos", settings.folder / "run"
    for number in range(24):
        place = photos / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        scene((16, 16), seed=number).save(place / f"{number}.png")
    small = ["--data.size", "16", "--model.name", "small_cnn", "--train.epochs", "1", "--quiet"]
    commands = {
        "train": ["train", "photos_scratch", "--data", str(photos), "--out", str(run), "--overwrite", *small],
        "doctor": ["doctor", str(photos), "--out", str(settings.folder / "page.html")],
    }
    if not settings.short:
        _run(commands["train"], settings.folder, "", "whole")
        commands["predict"] = ["predict", str(run), str(photos), "--out", str(settings.folder / "out.csv")]
        commands["train"][4] = str(settings.folder / "another")
    (photos / "class_1" / "1.png").rename(photos / "class_1" / "evil.png")
    tried, failures = 0, []
    for how in HOW[:1] if settings.short else HOW:
        for name, words in commands.items() if not settings.short else [("doctor", commands["doctor"])]:
            cache = f"cache-{how}-{name}"
            if _run(words, settings.folder, how, cache).returncode in range(6):
                continue  # the fault did not fire
            tried += 1
            told = _run(words, settings.folder, how, cache)
            shown = told.stdout + told.stderr
            if name == "predict" and (settings.folder / "out.csv").is_file():
                shown += (settings.folder / "out.csv").read_text()
            if told.returncode not in range(6) or "evil.png" not in shown or "crashes" not in shown:
                failures.append(f"{name} after {how}: status {told.returncode}, {shown[-300:]}")
    return Outcome(tried, tuple(failures))


def _run(words: list[str], folder: Path, how: str, cache: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    (folder / cache).mkdir(exist_ok=True)  # the cache, and the temporary files, which name what was being decoded
    more = {"SIGHTLINE_CACHE": str(folder / cache), "TMPDIR": str(folder / cache), "OMP_NUM_THREADS": "1"}
    more |= {"PYTHONPATH": path, "RELIABILITY_HOW": how}
    command = [sys.executable, "-m", "sightline", *words]
    return subprocess.run(command, env=os.environ | more, capture_output=True, text=True, cwd=folder)


@contextlib.contextmanager
def no_test() -> Generator[None]:
    """Commands that do not test the images of an earlier crash."""
    os.environ["RELIABILITY_NO_TEST"] = "1"
    try:
        yield
    finally:
        del os.environ["RELIABILITY_NO_TEST"]


ROWS = (
    Row(
        "decoders that crash",
        "Bad input",
        "after a crash in a decoder the next command names the file, refuses it as a bad image and lives",
        check_crashes,
        {"nothing learned from a crash": no_test},
    ),
)
