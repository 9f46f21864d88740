"""The process group of a `torchrun` run: setup, shutdown, and errors of other processes."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Generator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ..data.parallel import share_of
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError
from .distributed import Activity, World, all_gathered, unlimited_group, world

NO_LIMIT = timedelta(days=7)  # for the barrier of `local_rank0_first`: decoding a large data set takes hours
GRACE_SECONDS = 25.0  # from a signal to the exit of a process without progress; torchrun kills it after 30
FAILED_PEER_PHRASES = (
    "closed by peer",
    "reset by peer",
    "timed out",
    "timeout",
    "broken pipe",
    "connection refused",
    "aborted",
    "remote process exited",  # NCCL's messages, from here on
    "ncclremoteerror",
    "watchdog",
)
"""Parts of error messages by which a collective operation is known to have failed because another process failed."""


def restarted() -> bool:
    """Whether torchrun has restarted the processes of this run after a failure."""
    return restart_count() not in ("", "0")


def can_restart() -> bool:
    """Whether torchrun restarts the processes of this run after a failure."""
    return os.environ.get("TORCHELASTIC_MAX_RESTARTS", "") not in ("", "0")


def restart_count() -> str:
    """How often torchrun has restarted the processes of this run, as text."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


@contextlib.contextmanager
def process_group(timeout_seconds: float) -> Generator[World]:
    """Context manager: join the process group of torchrun; without torchrun, do nothing.

    timeout_seconds: limit of each collective operation. If a process is killed, or hangs for longer than the timeout,
    all other processes raise SightlineError with status ENVIRONMENT (3). They also raise it if they cannot connect to
    each other.
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
        # torchrun may reuse its store after a restart: use other keys for each attempt.
        store = dist.PrefixStore(f"attempt {restart_count()}", store)
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        dist.init_process_group(backend, timeout=limit, store=store, rank=rank, world_size=size)
    except (ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        cure = (
            "start all processes with torchrun: torchrun --nproc-per-node 2 -m sightline train ...; if its port is in "
            "use, "
            "choose a free one: torchrun --rdzv-endpoint HOST:PORT ..."
        )
        what = "the processes of this run could not connect to each other"
        raise SightlineError(what, why=why, cure=cure, status=ENVIRONMENT) from error
    unlimited_group.append(dist.new_group(backend="gloo", timeout=NO_LIMIT))
    with failed_peers_explained(local_peers()), exit_after_signal():
        yield world()
        if dist.is_initialized():
            shutdown()


def shutdown() -> None:
    """Destroy the process group, a collective operation; afterwards `world` has one process."""
    if dist.is_initialized():
        dist.barrier(group=unlimited_group.pop())
        dist.destroy_process_group()


def local_peers() -> list[int]:
    """Process IDs of the other processes of this run on this machine."""
    host = int.from_bytes(hashlib.sha256(socket.gethostname().encode()).digest()[:7], "big")  # fits int64
    every = all_gathered(torch.tensor([host, os.getpid()]))
    return [int(pid) for other, pid in map(Tensor.tolist, every) if other == host and pid != os.getpid()]


@contextlib.contextmanager
def failed_peers_explained(peers: list[int]) -> Generator[None]:
    """Context manager: raise SightlineError if a collective operation within the block fails because another process
    failed, or for another error of NCCL.

    peers: IDs of the run's other processes on this machine. They are killed first if the operation timed out, because
    one of them hangs, and torchrun would wait 30 seconds for it.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not any(phrase in text.lower() for phrase in FAILED_PEER_PHRASES):
            if "nccl" not in text.lower():
                raise
            what, cure = "the GPUs of this run cannot exchange data", "for more details: export NCCL_DEBUG=INFO"
            raise SightlineError(what, why=text.strip(), cure=cure, status=ENVIRONMENT) from error
        timed_out = re.search("timed? ?out", text.lower()) is not None
        if timed_out:
            for pid in peers:
                with contextlib.suppress(OSError):
                    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows, SIGTERM kills
        what = "another process of this run does not respond" if timed_out else "another process of this run has ended"
        cure = "fix the error that the other process printed, if any, then resume: torchrun ... -m sightline resume RUN"
        raise SightlineError(what, why=text.splitlines()[0], cure=cure, status=ENVIRONMENT) from error


@contextlib.contextmanager
def exit_after_signal() -> Generator[None]:
    """Context manager: after a signal within the block, exit the process if it hangs.

    It hangs if the counter `Activity` does not change within GRACE_SECONDS. A process that waits in NCCL for a dead
    process does not return to Python, where signals are handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(receive, 1) not in (b"", b"\0"):
            seen, deadline = Activity.count, time.monotonic() + GRACE_SECONDS
            while Activity.count == seen and time.monotonic() < deadline:
                time.sleep(0.05)
            if Activity.count == seen:
                os._exit(INTERRUPTED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        Activity.count += 1
        signal.set_wakeup_fd(before)
        os.write(send, b"\0")
        thread.join()
        os.close(send)
        os.close(receive)
