"""The processes of `torchrun` as one run: who they are, what they tell each other, how they part.

A process alone is a world of one, for which all of this does nothing. The first process, of rank 0, leads: it alone
writes the run folder and talks. What is said between processes is tensors, never pickled objects.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError
from ..inference.sharded_predict import Share, share_of

PATIENCE = timedelta(days=7)  # decoding a large set, while the others wait, may take as long as it takes
GRACE_SECONDS = 8  # from a signal to the end of a process that can no longer get on
GONE = (
    "closed by peer",
    "reset by peer",
    "timed out",
    "timeout",
    "broken pipe",
    "connection refused",
    "nccl",
    "aborted",
)


@dataclass(frozen=True)
class World:
    """The place of this process among those of the run. local_rank: among those of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What of the work is this process's."""
        return Share(self.rank, self.size)


ALONE = World()
_patient: list[Any] = []  # the group for waiting without a limit, while there is one
_apart: list[bool] = []  # not empty: each process for itself, see `in_step`


def world() -> World:
    """The world as it is now: of one process before `joined`, after it, and without torchrun."""
    if _apart or not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def restarted() -> bool:
    """Whether torchrun has started the processes again after one of them failed."""
    return attempt() not in ("", "0")


def attempt() -> str:
    """How often torchrun has started the processes again."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


@contextlib.contextmanager
def joined(timeout_seconds: float) -> Generator[World]:
    """Join the processes that torchrun started, for as long as the block runs; alone it does nothing.

    timeout_seconds: how long one of them may keep the others waiting. A process that was killed is noticed at once, one
    that hangs after this time; either ends all, with status 3 (environment). Raises SightlineError where torchrun's
    variables are wrong or the others cannot be reached.
    """
    if share_of(os.environ).world == 1 or dist.is_initialized():
        yield world()
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        limit = timedelta(seconds=timeout_seconds)
        store, rank, size = next(iter(dist.rendezvous("env://", timeout=limit)))
        # torchrun may keep its store when it starts all again: what the dead ones wrote must not be read as new.
        store = dist.PrefixStore(f"attempt {attempt()}", store)
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        dist.init_process_group(backend, timeout=limit, store=store, rank=rank, world_size=size)
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        cure = "torchrun --nproc-per-node 2 -m sightline train ...; --rdzv-endpoint HOST:PORT names a free port"
        what = "the processes of this run cannot find each other"
        raise SightlineError(what, why=why, cure=cure, status=ENVIRONMENT) from error
    _patient.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    with explained_partners(neighbors()), watched_signals():
        yield world()
        if dist.is_initialized():
            part()


def part() -> None:
    """Leave the others, all together; from here on each process is alone."""
    if dist.is_initialized():
        dist.barrier(group=_patient.pop())
        dist.destroy_process_group()


def neighbors() -> list[int]:
    """Process ids of the run's other processes on this machine."""
    host = int.from_bytes(socket.gethostname().encode()[-7:], "big")
    every = all_gathered(torch.tensor([host, os.getpid()]))
    return [int(pid) for place, pid in map(Tensor.tolist, every) if place == host and pid != os.getpid()]


@contextlib.contextmanager
def explained_partners(siblings: list[int]) -> Generator[None]:
    """Turn the failure of a collective operation into one message; siblings on this machine are ended with it.

    A sibling that hangs (that is stopped, say) would keep torchrun waiting for half a minute.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not any(phrase in text.lower() for phrase in GONE):
            raise
        late = "time" in text.lower() and "out" in text.lower()
        if late:
            for pid in siblings:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        what = "another process of this run hangs" if late else "another process of this run has ended"
        cure = "its own message, above or below, says why; then go on with `torchrun ... -m sightline resume RUN`"
        raise SightlineError(what, why=text.splitlines()[0], cure=cure, status=ENVIRONMENT) from error


class Beat:
    """Counts what the process gets done; see `watched_signals`."""

    count = 0


@contextlib.contextmanager
def watched_signals() -> Generator[None]:
    """End the process if within GRACE_SECONDS of a signal it gets nothing done: one that waits for a dead partner
    in a graphics card's library would not come to see the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(receive, 1) not in (b"", b"\0"):
            seen, deadline = Beat.count, time.monotonic() + GRACE_SECONDS
            while Beat.count == seen and time.monotonic() < deadline:
                time.sleep(0.05)
            if Beat.count == seen:
                os._exit(INTERRUPTED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        Beat.count += 1
        signal.set_wakeup_fd(before)
        os.write(send, b"\0")
        thread.join()
        os.close(send)
        os.close(receive)


@contextlib.contextmanager
def leader_first() -> Generator[None]:
    """The block runs in one process of each machine before it runs in the others, which find what it decoded."""
    place = world()
    if place.size > 1 and place.local_rank:
        dist.barrier(group=_patient[-1])
    yield
    if place.size > 1 and not place.local_rank:
        dist.barrier(group=_patient[-1])


# ------------------------------------------------------------------------------------------------ what is said


def any_of(flags: list[bool]) -> list[bool]:
    """For each flag, whether any process has it."""
    Beat.count += 1
    if world().size == 1:
        return flags
    counts = torch.tensor(flags, dtype=torch.float32)
    dist.all_reduce(counts)
    return (counts > 0).tolist()


def averaged(values: Tensor) -> Tensor:
    """The mean of these values over all processes; no gradient flows through it."""
    if world().size > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
        values /= world().size
    return values


def told(value: Any) -> Any:
    """What the leader has, in every process; anything that JSON can hold, to the bit."""
    if world().size == 1:
        return value
    content = bytearray(json.dumps(value).encode()) if world().leads else bytearray()
    length = torch.tensor([len(content)])
    dist.broadcast(length, 0)
    message = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(message, 0)
    return json.loads(bytes(message.numpy()))


def require_same(values: Mapping[str, str], lines: Mapping[str, Callable[[], list[str]]] | None = None) -> None:
    """SightlineError with the first difference where a process was given other settings or data than the leader.

    values: of each process, by name, the same names in all. lines: by name, what a value that is only a digest stands
    for; the leader's are told where a digest differs, and only then.
    """
    known = told(dict(values))
    others = [known.get(name) != value for name, value in values.items()]
    faults = []
    for name, differs, anywhere in zip(values, others, any_of(others), strict=True):
        if anywhere:
            here = lines[name]() if lines and name in lines else values[name].splitlines()
            there = told(here)
            faults += [f"it has another {name}: {first_difference(there, here)}"] if differs else []
    if faults:
        cure = "start all with the same command, on the same data"
        what = f"process {world().rank} is not part of the run of process 0"
        raise SightlineError(what, why="; ".join(faults), cure=cure)


def first_difference(there: list[str], here: list[str]) -> str:
    """Where the leader's lines and this process's part, in words."""
    place = next((n for n, pair in enumerate(zip(there, here, strict=False)) if pair[0] != pair[1]), None)
    if place is not None:
        return f"{there[place]!r} in process 0, {here[place]!r} here"
    if len(there) == len(here):
        return "its names are the same, what is in it is not"
    longer, who = (there, "process 0") if len(there) > len(here) else (here, "this process")
    return f"{len(there):,} in process 0, {len(here):,} here; only {who} has {longer[min(len(there), len(here))]!r}"


def collected(parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The parts of all processes in the order of the batches, which they took in turn; [] but in the leader."""
    from safetensors.torch import load, save

    place = world()
    if place.size == 1:
        return parts
    flat = {
        f"{number}.{name}": tensor.cpu().contiguous()
        for number, part in enumerate(parts)
        for name, tensor in part.items()
    }
    content = torch.frombuffer(bytearray(save(flat)), dtype=torch.uint8)
    lengths = all_gathered(torch.tensor([len(content)]))
    if not place.leads:
        dist.send(content, 0)
        return []
    found = [parts]
    for rank in range(1, place.size):
        message = torch.empty(int(lengths[rank]), dtype=torch.uint8)
        dist.recv(message, rank)
        received: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load(message.numpy().tobytes()).items():
            number, _, name = key.partition(".")
            received.setdefault(int(number), {})[name] = tensor
        found.append([received[number] for number in sorted(received)])
    longest = max(map(len, found))
    return [each[number] for number in range(longest) for each in found if number < len(each)]


def all_gathered(values: Tensor) -> list[Tensor]:
    """The values of each process, of one shape in all of them, in their order."""
    every = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(every, values)
    return every


class Gather(torch.autograd.Function):
    """All processes' rows; see `gathered`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.counts = [int(count) for count in all_gathered(torch.tensor([len(rows)], device=rows.device))]
        room = rows.new_zeros((max(ctx.counts), *rows.shape[1:]))
        room[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(all_gathered(room), ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = sum(ctx.counts[: dist.get_rank()])
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return whole[start : start + ctx.counts[dist.get_rank()]]


def gathered(rows: Tensor) -> Tensor:
    """The rows [N, ...] of all processes in their order, for a loss over the whole batch; gradients flow back.

    Every process then computes the same loss: its share in the mean of all of them is 1 / size.
    """
    if world().size == 1:
        return rows
    found = Gather.apply(rows)
    assert isinstance(found, Tensor)
    return found


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process has a part, put together in every one of them; others as they are."""
    full = getattr(tensor, "full_tensor", None)  # importing DTensor to ask for it would take a second
    return full() if full else tensor


@contextlib.contextmanager
def in_step(step: Any) -> Generator[None]:
    """Within the block every process of a sharded model does all of the work: the blocks' weights come together only
    where all processes call them equally often. Where `step` is of no sharded model it does nothing."""
    if not hasattr(step, "unshard"):
        yield
        return
    step.unshard()
    _apart.append(True)
    try:
        yield
    finally:
        _apart.pop()
        step.reshard()


def part_like(tensor: Tensor, example: Tensor) -> Tensor:
    """This process's part of a whole tensor, as `example` has its own."""
    if not hasattr(example, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(example, DTensor)
    return distribute_tensor(tensor, example.device_mesh, example.placements)


@torch.no_grad()
def align_buffers(module: torch.nn.Module) -> None:
    """The leader's buffers (running statistics) in every process; they differ where norms were not synchronized."""
    if world().size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
