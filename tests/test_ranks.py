"""Several processes as one run: the same gradients and numbers as one, and an end whatever happens to one of them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells each process."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return os.environ | {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in place.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=[2, 3])
def found(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_photos: Callable[..., Path],
    make_scenes: Callable[..., Path],
) -> list[dict[str, Any]]:
    """What each of two, and of three, processes found in `ranks_toys.py`."""
    folder, size, port = tmp_path_factory.mktemp("ranks"), request.param, free_port()
    data = [make_photos(folder / "photos", train=9, val=5), make_scenes(folder / "scenes", train=8, val=5)]
    command = [sys.executable, str(HERE / "ranks_toys.py"), *map(str, data), str(folder / "found")]
    started = [
        subprocess.Popen([*command, str(rank)], env=environment(rank, size, port), stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert (folder / f"found.{started.index(process)}").is_file(), errors
    return [json.loads((folder / f"found.{rank}").read_text()) for rank in range(size)]


def test_batch_norm_and_dropout_see_the_whole_batch(found: list[dict[str, Any]]) -> None:
    assert all(each["norms"] < 1e-12 and each["dropped"] for each in found)


def test_what_processes_tell_each_other(found: list[dict[str, Any]]) -> None:
    said, size = [each["said"] for each in found], len(found)
    assert [each["collected"] for each in said] == [[0, 1, 2, 3, 4]] + [[]] * (size - 1)
    assert all(each["told"] == [0.1 + 0.2, 0] and each["any"] == [True, False] for each in said)
    rows = [float(rank) for rank in range(size) for _ in range(rank + 1)]
    assert all(each["gathered"] == rows for each in said)
    places = [list(range(sum(range(rank + 1)) + 1, sum(range(rank + 2)) + 1)) for rank in range(size)]
    assert [each["back"] for each in said] == [[float(size * place) for place in own] for own in places]
    assert said[0]["refused"] == "" and all("another data" in each["refused"] for each in said[1:])


@pytest.mark.parametrize(
    "name",
    ["classify", "uneven", "few", "mixed", "accumulated", "byol", "contrast", "pixels", "regions"],
)
def test_a_step_of_several_is_that_of_one(found: list[dict[str, Any]], name: str) -> None:
    for each in found:
        alone, together, far, evaluated, shared = each[name]
        assert together == pytest.approx(alone, rel=1e-4)
        assert far < 1e-6, f"gradients differ by {far:.1e} of the largest"
        assert shared == evaluated  # to the bit, though the batches were shared
