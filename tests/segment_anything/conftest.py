"""Fixtures: a tiny checkpoint, images, and a blocked network."""

import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from sam_toys import scene, write_sam
from sightline.segment_anything.model import Sam, load_sam

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Host lookups and connections fail and are recorded in this list; the hub's cache is an empty folder."""
    tried: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("the network is unreachable")

    def look_up(host: object, *_: object, **__: object) -> None:
        tried.append(host)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tried


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint."""
    return write_sam(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def sam(tiny_sam: Path) -> Sam:
    """The tiny checkpoint, loaded."""
    return load_sam(str(tiny_sam))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them in a subfolder, and a text file."""
    for seed, name in enumerate(("a.png", "b_sat.png", "deep/c.png")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed).transpose(1, 2, 0)).save(path)
    (tmp_path / "in" / "notes.txt").write_text("x")
    return tmp_path / "in"
