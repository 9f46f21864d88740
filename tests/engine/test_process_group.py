"""The process group of a run: other processes of the same machine, and errors of other processes."""

import os
import socket

import pytest
import torch
from torch import Tensor

from sightline.engine import process_group


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
