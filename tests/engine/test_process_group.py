"""The process group of a run: other processes of the same machine, and errors of other processes."""

import inspect
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import PContext

from forked import ended, fork
from sightline.engine import process_group
from sightline.engine.evaluate import counted_as_activity
from sightline.errors import ENVIRONMENT, INTERRUPTED, SightlineError


@pytest.mark.parametrize(("other", "peers"), [("node2.cluster.example.org", []), ("node1.cluster.example.org", [7])])
def test_processes_of_other_machines_are_no_local_peers(
    other: str, peers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Tensor] = []

    def gathered(values: Tensor) -> list[Tensor]:
        sent.append(values)
        return sent

    monkeypatch.setattr(process_group, "all_gathered", gathered)
    monkeypatch.setattr(socket, "gethostname", lambda: other)
    process_group.local_peers()
    sent[0][1] = 7  # the ID of that process
    monkeypatch.setattr(socket, "gethostname", lambda: "node1.cluster.example.org")
    assert process_group.local_peers() == peers and sent[1].tolist()[1] == os.getpid()
    assert sent[1].dtype == torch.int64


def test_a_process_has_most_of_the_time_that_torchrun_allows_after_a_signal() -> None:
    allowed = inspect.signature(PContext.close).parameters["timeout"].default
    assert 0.8 * allowed < process_group.GRACE_SECONDS < allowed


def evaluate_after_signal(progress: bool) -> int:
    """Get a signal during an evaluation of a second, twice the time without progress after which a process exits."""
    process_group.GRACE_SECONDS = 0.5
    signal.signal(signal.SIGTERM, lambda *_: None)
    batches: Any = (time.sleep(0.1) for _ in range(10))
    with process_group.exit_after_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        list(counted_as_activity(batches) if progress else batches)
    return 0


@pytest.mark.parametrize("progress", [True, False])
def test_a_signal_during_a_long_evaluation_ends_only_a_process_without_progress(progress: bool, tmp_path: Path) -> None:
    process = fork(evaluate_after_signal, progress, output=tmp_path / "output")
    assert ended(process) == (0 if progress else INTERRUPTED), (tmp_path / "output").read_text()


NCCL = "NCCL error in: /pytorch/ProcessGroupNCCL.cpp:94, {}, NCCL version 2.27.5\n{}"
DUPLICATE = NCCL.format(
    "invalid usage (run with NCCL_DEBUG=WARN for details)",
    "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\nLast error:\n"
    "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000",
)
PEER = "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        (DUPLICATE, "the GPUs of this run cannot exchange data", "Duplicate GPU detected : rank 1 and rank 0"),
        (NCCL.format("remote process exited or there was a network error", PEER), "has ended", "remote process exited"),
        ("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)", "does not respond", "Watchdog"),
        ("Connection closed by peer [127.0.0.1]:4711", "has ended", "closed by peer"),
    ],
)
def test_only_errors_of_other_processes_are_reported_as_such(text: str, what: str, why: str) -> None:
    with pytest.raises(SightlineError, match=what) as caught, process_group.failed_peers_explained([]):
        raise dist.DistBackendError(text)
    assert why in caught.value.why and caught.value.status == ENVIRONMENT
