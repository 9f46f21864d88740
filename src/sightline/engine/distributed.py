"""Collective operations between the processes of a `torchrun` run, and sharded tensors.

Without torchrun there is one process, and all functions return their input. Only rank 0 prints and writes the run
folder. Messages are tensors, JSON or safetensors, never pickled objects.
"""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..data.parallel import Share
from ..errors import SightlineError


@dataclass(frozen=True)
class World:
    """Rank of this process, number of processes, and rank among the processes of the same machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_rank0(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> Share:
        """Rank and number of processes as a `Share`, by which the data loader selects the images of this process."""
        return Share(self.rank, self.size)


SINGLE = World()
unlimited_group: list[Any] = []  # the group for barriers without a time limit, if there are several processes
_unsharded: list[bool] = []  # not empty within `unsharded_for`


class Activity:
    """Counter that increases while training makes progress. After a signal, `process_group.exit_after_signal` ends a
    process whose counter does not change, because it hangs."""

    count = 0


def world() -> World:
    """The rank of this process and the number of processes.

    The number is 1 outside of the context manager `process_group.process_group`, and within `unsharded_for`.
    """
    if _unsharded or not (dist.is_available() and dist.is_initialized()):
        return SINGLE
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def local_rank0_first() -> Generator[None]:
    """Context manager: on each machine, run the block in one process first, then in the machine's other processes.
    The others can then read the cache that the first one wrote."""
    here = world()
    if here.size > 1 and here.local_rank:
        dist.barrier(group=unlimited_group[-1])
    yield
    if here.size > 1 and not here.local_rank:
        dist.barrier(group=unlimited_group[-1])


def any_of(flags: list[bool]) -> list[bool]:
    """For each flag, whether it is set in any process."""
    Activity.count += 1
    if world().size == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.float32)
    dist.all_reduce(counts)
    return (counts > 0).tolist()


def averaged(values: Tensor) -> Tensor:
    """The mean of the values over all processes, without gradient."""
    if world().size > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
        values /= world().size
    return values


def broadcast_json(value: Any) -> Any:
    """Broadcast a JSON value from rank 0."""
    if world().size == 1:
        return value
    content = bytearray(json.dumps(value).encode()) if world().is_rank0 else bytearray()
    length = torch.tensor([len(content)])
    dist.broadcast(length, 0)
    message = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(message, 0)
    return json.loads(bytes(message.numpy()))


def require_same(values: Mapping[str, str], lines: Mapping[str, Callable[[], list[str]]] | None = None) -> None:
    """Raise SightlineError with the first difference if the settings or data of this process differ from rank 0's.

    values: text by name, with the same names in all processes; a long text is given as its digest. lines: for such a
    name, a function that returns the lines of the long text. These are only broadcast if the digests differ.
    """
    expected = broadcast_json(dict(values))
    different = [expected.get(name) != value for name, value in values.items()]
    faults = []
    for name, differs, anywhere in zip(values, different, any_of(different), strict=True):
        if anywhere:
            here = lines[name]() if lines and name in lines else values[name].splitlines()
            there = broadcast_json(here)
            faults += [f"their {name} differs: {first_difference(there, here)}"] if differs else []
    if faults:
        cure = "start all processes with the same command and the same data"
        what = f"process {world().rank} and process 0 of this run have different settings or data"
        raise SightlineError(what, why="; ".join(faults), cure=cure)


def first_difference(there: list[str], here: list[str]) -> str:
    """Describe the first difference between the lines of rank 0 (`there`) and of this process (`here`)."""
    index = next((n for n, pair in enumerate(zip(there, here, strict=False)) if pair[0] != pair[1]), None)
    if index is not None:
        return f"{there[index]!r} in process 0, {here[index]!r} here"
    if len(there) == len(here):
        return "the names are equal, but the contents differ"
    longer, who = (there, "process 0") if len(there) > len(here) else (here, "this process")
    return f"{len(there):,} in process 0, {len(here):,} here; only {who} has {longer[min(len(there), len(here))]!r}"


def gather_to_rank0(parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Gather the results of all batches at rank 0, in the order of the batches; other ranks get [].

    parts: the results of this process for its batches. The ranks take batches in turn, so batch i is that of rank i %
    (number of processes).
    """
    from safetensors.torch import load, save

    here = world()
    if here.size == 1:
        return parts
    flat = {
        f"{number}.{name}": tensor.cpu().contiguous()
        for number, part in enumerate(parts)
        for name, tensor in part.items()
    }
    content = torch.frombuffer(bytearray(save(flat)), dtype=torch.uint8)
    lengths = all_gathered(torch.tensor([len(content)]))
    if not here.is_rank0:
        dist.send(content, 0)
        return []
    every, devices = [parts], {name: tensor.device for part in parts for name, tensor in part.items()}
    for rank in range(1, here.size):
        message = torch.empty(int(lengths[rank]), dtype=torch.uint8)
        dist.recv(message, rank)
        received: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load(message.numpy().tobytes()).items():
            number, _, name = key.partition(".")
            received.setdefault(int(number), {})[name] = tensor.to(devices.get(name, "cpu"))
        every.append([received[number] for number in sorted(received)])
    longest = max(map(len, every))
    return [each[number] for number in range(longest) for each in every if number < len(each)]


def all_gathered(values: Tensor) -> list[Tensor]:
    """Gather `values` of all processes: a list of tensors in the order of ranks. All must have the same shape."""
    every = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(every, values)
    return every


class GatherRows(torch.autograd.Function):
    """Autograd function of `gathered`: concatenate rows of all processes, and return gradients to them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.counts = [int(count) for count in all_gathered(torch.tensor([len(rows)], device=rows.device))]
        padded = rows.new_zeros((max(ctx.counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(all_gathered(padded), ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = sum(ctx.counts[: dist.get_rank()])
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[start : start + ctx.counts[dist.get_rank()]]


def gathered(rows: Tensor) -> Tensor:
    """Concatenate the rows [N, ...] of all processes in the order of ranks, with gradient. For losses over the
    global batch, such as contrastive ones: each process computes the loss of all rows."""
    if world().size == 1:
        return rows
    every = GatherRows.apply(rows)
    assert isinstance(every, Tensor)
    return every


@torch.no_grad()
def align_buffers(module: torch.nn.Module) -> None:
    """Copy rank 0's buffers to all processes: running statistics differ if batch norms are not synchronized."""
    if world().size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather the full tensor of a DTensor, a collective operation. Other tensors are returned unchanged."""
    full = getattr(tensor, "full_tensor", None)  # `isinstance` would need DTensor, whose import takes a second
    return full() if full else tensor


def full_on_rank0(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather the full tensors of DTensors on the CPU of rank 0, a collective operation; other ranks get {}. Other
    tensors are returned unchanged.

    A GPU has one full tensor at a time: all of them may not fit into its memory.
    """
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if world().is_rank0:
            gathered[name] = full if full is tensor else full.cpu()
    return gathered


def shard_like(tensor: Tensor, example: Tensor) -> Tensor:
    """This process's shard of the full tensor `tensor`, distributed like the DTensor `example`. If `example` is not
    a DTensor, or `tensor` is one already, `tensor` is returned unchanged."""
    if not hasattr(example, "full_tensor") or hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(example, DTensor)
    return distribute_tensor(tensor, example.device_mesh, example.placements)


@contextlib.contextmanager
def unsharded_for(step: Any) -> Generator[None]:
    """Context manager: gather the full weights of a model that FSDP2 has sharded. Does nothing if `step` is not
    sharded.

    Without it, each forward pass is a collective operation, and all processes need the same number of batches. Within
    the block, `world` reports a single process.
    """
    if not hasattr(step, "unshard"):
        yield
        return
    step.unshard()
    _unsharded.append(True)
    try:
        yield
    finally:
        _unsharded.pop()
        step.reshard()
