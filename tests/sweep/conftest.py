"""Sweeps in seconds: pictures of 8x8, and trials that are forked from the test, which has torch loaded already."""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from sightline.config import Config
from sightline.settings import resolve

SMALL = {
    "name": "small",
    "data.size": 8,
    "model.name": "small_cnn",
    "model.args": {"widths": [8, 8]},
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
}


BLANK = b"\x89PNG\r\n\x1a\n" + bytes(8) + (64).to_bytes(4, "big") * 2
"""For the comparison's drawings, which have tests of their own."""


class Forked:
    """A nursery's process, as subprocess.Popen would give it."""

    held: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        import sightline.resume
        import sightline.train  # noqa: F401
        from sightline.sweep.nursery import serve

        down, up = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for handle in (down[1], up[0], *Forked.held):  # a fork holds the pipes of the nurseries before it
                with contextlib.suppress(OSError):
                    os.close(handle)
            serve(down[0], up[1])
            os._exit(0)
        os.close(down[0])
        os.close(up[1])
        self.stdin, self.stdout = os.fdopen(down[1], "wb", buffering=0), os.fdopen(up[0], "rb", buffering=0)
        self.gone = False
        Forked.held.add(down[1])

    def poll(self) -> int | None:
        self.gone = self.gone or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return 0 if self.gone else None

    def wait(self, timeout: float = 0) -> None:
        Forked.held.clear()
        if not self.gone:
            os.waitpid(self.pid, 0)
            self.gone = True


@pytest.fixture(scope="module")
def forked(quick_figures: None) -> Iterator[None]:
    """Trials begin without a fresh interpreter, and their reports draw nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("sightline.sweep.nursery"), "spawn", lambda environment: Forked())
        patch.setattr(importlib.import_module("sightline.sweep.trial"), "POLL_SECONDS", 0.02)
        patch.setattr(importlib.import_module("sightline.report.compare.files"), "png", lambda figure: BLANK)
        yield


@pytest.fixture(scope="session")
def tiles(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 16 + 8 pictures of 8x8 each."""
    return make_photos(tmp_path_factory.mktemp("tiles"), classes=2, train=16, val=8, size=8)


@pytest.fixture(scope="session")
def recipe() -> Config:
    return resolve(Config(), SMALL)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What the sweep has said since the last call."""
    return lambda: capsys.readouterr().out.splitlines()
