"""Working through the trials: a thread for each of those at a time, until none is left or all must stop."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import INTERRUPTED, SightlineError, listing
from ..runs.atomic import disk_error
from .board import Board, Outcome
from .nursery import Nursery
from .results import line_of, ranked, write_results
from .trial import run_trial

FIRST_TRIALS = 3
"""When so many fail and none has succeeded, the rest would fail too."""
END_SECONDS = 120.0


@dataclass
class Teller:
    """Says each trial once when it is finished, and how long the rest may take; keeps sweep.json up to date."""

    board: Board
    say: Callable[[str], None]
    jobs: int = 1
    told: set[int] = field(default_factory=set)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def hush(self) -> int:
        """Take what is finished as said; returns how many that are."""
        self.told |= {trial.number for trial in self.board.finished()}
        return len(self.told)

    def begin(self) -> int:
        """Say how many trials are done already; returns how many are left."""
        done = self.hush()
        if done:
            self.say(f"goes on: {done} of {self.board.trials} trials are done")
        return max(0, self.board.trials - done)

    def update(self) -> None:
        """Say what is new."""
        with self.turn:
            write_results(self.board)
            rows = [row for row in self.board.rows() if row["state"] != "running"]
            best = next(iter(ranked(self.board.plan.lowest, rows)), None)
            for row in rows:
                if row["trial"] not in self.told:
                    self.told.add(row["trial"])
                    left = self.left(rows) if row is rows[-1] else ""
                    done = f"{len(self.told):>{len(str(self.board.trials))}}/{self.board.trials}"
                    self.say(line_of(row, self.board.plan.metric, done, best) + left)

    def left(self, rows: list[dict]) -> str:
        """How long the trials that are left may take, by the mean of those that are done."""
        from ..runs.terminal import duration

        times = [row["seconds"] for row in rows if row["seconds"]]
        waiting = self.board.trials - len(rows)
        if not times or waiting <= 0:
            return ""
        return f"  about {duration(sum(times) / len(times) * waiting / self.jobs)} left"


@dataclass
class Session:
    """One process's part in a sweep. deadline: of time.monotonic(), when running trials are saved and left; 0: none."""

    board: Board
    jobs: int
    threads: int
    teller: Teller
    deadline: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    failures: list[tuple[int, str]] = field(default_factory=list)
    succeeded: bool = False
    interrupted: bool = False
    nurseries: list[Nursery] = field(default_factory=list)
    workers: list[threading.Thread] = field(default_factory=list)

    def stopping(self) -> bool:
        return self.stop.is_set() or (self.deadline > 0 and time.monotonic() > self.deadline)

    def start(self) -> None:
        """Begin: the processes first, for a process that has threads is not to be forked."""
        devices = graphics_cards() if self.jobs > 1 else []
        for place in range(self.jobs):
            own = {"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if len(devices) > 1 else {}
            self.nurseries.append(Nursery(own))
            self.nurseries[-1].warm_up()
        for nursery in self.nurseries:
            self.workers.append(threading.Thread(target=self.work, args=(nursery,), daemon=True))
            self.workers[-1].start()

    def working(self) -> bool:
        return any(worker.is_alive() for worker in self.workers)

    def join(self, asked: Callable[[], bool] = lambda: False) -> None:
        """Wait until all is done; `asked` says when all is to be saved and left."""
        while self.working():
            if asked():
                self.interrupted = True
                self.stop.set()
            for worker in self.workers:
                worker.join(0.05)
        self.close()

    def close(self) -> None:
        for nursery in self.nurseries:
            nursery.close()

    def work(self, nursery: Nursery) -> None:
        """A thread: trial after trial. What is wrong with the machine ends all threads."""
        try:
            while not self.stopping() and (found := self.board.next()):
                trial, claim = found
                try:
                    outcome = run_trial(self.board, trial, claim, nursery, self.threads, self.stopping)
                    if outcome is None:
                        self.interrupted = self.interrupted or not self.stopping()
                        self.stop.set()
                        return
                    self.board.tell(trial, outcome)
                finally:
                    claim.release()
                self.teller.update()
                self.count(trial.number, outcome)
        except OSError as error:
            self.end(disk_error(self.board.folder, error))
        except BaseException as error:
            self.end(error)

    def end(self, error: BaseException) -> None:
        self.error = self.error or error
        self.stop.set()

    def count(self, number: int, outcome: Outcome) -> None:
        """SightlineError where the first trials have all failed."""
        if outcome.state != "failed":
            self.succeeded = True
            return
        self.failures.append((number, outcome.message))
        most = min(FIRST_TRIALS, self.board.trials)
        whole = any(trial.state.name in ("COMPLETE", "PRUNED") for trial in self.board.finished())
        if len(self.failures) >= most and not self.succeeded and not whole:
            lines = [f"trial {place}: {message}" for place, message in self.failures]
            why = "the others would most likely fail too:\n" + listing(lines)
            cure = f"mend what they say; their logs are in {self.board.folder / 'logs'}"
            what = f"the first {len(lines)} trials have all failed" if len(lines) > 1 else "the first trial has failed"
            raise SightlineError(what, where=str(self.board.folder), why=why, cure=cure)


def graphics_cards() -> list[str]:
    """The graphics cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(place) for place in range(torch.cuda.device_count())]


def interrupted(session: Session, cure: str) -> SightlineError:
    """The polite end: what is trained is saved."""
    board = session.board
    done = len(board.finished())
    what = f"interrupted with {done} of {board.trials} trials done; those that were running are saved"
    return SightlineError(what, where=str(board.folder), cure=cure, status=INTERRUPTED)
