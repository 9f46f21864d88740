"""Decoders that crash and end the process: the next command reports the file."""

import os
import runpy
import tempfile
from pathlib import Path

from reliability import defects, toys
from reliability.contract import Outcome, Row, Settings
from reliability.mutations import synthetic_image

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
"""
"""Executed in the commands, and by Python itself in the processes that they start."""
NO_CHECK = defects.replace_attribute("data.decode.crash_guard", "check_suspects", defects.do_nothing)
HOW = ("SIGSEGV", "SIGABRT", "SIGBUS", "exit")


def check_crashes(settings: Settings) -> Outcome:
    """Let a decoder crash in one command (not a trial if it does not); the next command must report the file."""
    toys.preload()
    (settings.folder / "sitecustomize.py").write_text(SITE)
    photos, run = settings.folder / "photos", settings.folder / "run"
    for number in range(24):
        folder = photos / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        synthetic_image((16, 16), seed=number).save(folder / f"{number}.png")
    small = ["--data.size", "16", "--model.name", "small_cnn", "--train.epochs", "1", "--quiet"]
    commands = {
        "train": ["train", "photos_scratch", "--data", str(photos), "--out", str(run), "--overwrite", *small],
        "doctor": ["doctor", str(photos), "--out", str(settings.folder / "page.html")],
    }
    if not settings.short:
        _run(commands["train"], settings.folder, "", "cache")
        commands["predict"] = ["predict", str(run), str(photos), "--out", str(settings.folder / "out.csv")]
        commands["train"][4] = str(settings.folder / "another")
    (photos / "class_1" / "1.png").rename(photos / "class_1" / "evil.png")
    tried, failures = 0, []
    for how in HOW[:1] if settings.short else HOW:
        for name, words in commands.items() if not settings.short else [("doctor", commands["doctor"])]:
            cache = f"cache-{how}-{name}"
            if _run(words, settings.folder, how, cache).status in range(6):
                continue  # the fault did not fire
            tried += 1
            second = _run(words, settings.folder, how, cache)
            output = second.text
            if name == "predict" and (settings.folder / "out.csv").is_file():
                output += (settings.folder / "out.csv").read_text()
            if second.status not in range(6) or "evil.png" not in output or "crashes" not in output:
                failures.append(f"{name} after {how}: status {second.status}, {output[-300:]}")
    return Outcome(tried, tuple(failures))


def _run(words: list[str], folder: Path, how: str, cache: str) -> toys.CommandResult:
    """Run a command, whose decoder crashes by `how` ("": not)."""

    def setup() -> None:
        path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        os.environ.update(PYTHONPATH=path, RELIABILITY_HOW=how, TMPDIR=str(folder / cache), OMP_NUM_THREADS="1")
        tempfile.tempdir = None  # the list of files being decoded is a temporary file
        runpy.run_path(str(folder / "sitecustomize.py"))

    return toys.run_child(words, folder / cache, setup)


ROWS = (
    Row(
        "decoder crashes",
        "Invalid input",
        "after a crash in a decoder the next command names the file, treats it as an unreadable image, and continues",
        check_crashes,
        {"crashes are not remembered": NO_CHECK},
    ),
)
