"""`sightline sweep`: a search over settings. Each trial is an ordinary run, pruned early; the end is a comparison."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..errors import SightlineError, printable
from ..runs import run_folder
from ..runs.atomic import remove
from ..runs.signals import StopRequest
from . import claims
from .plan import FILE, Plan, budget, checked, load_plan, make_plan, refuse_other, write_plan
from .results import Sweep, write_results
from .storage import JOURNAL, need_optuna

OWN = (FILE, JOURNAL, "sweep.json", "sweep.csv", "best.yaml", "report.html", "report.pdf", "figures", "compare", "logs",
       "jobs", "claims")  # fmt: skip
"""What a sweep writes into its folder besides its trials."""
GO_ON = "the same command goes on with it"


def sweep(
    recipe: str | Config,
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    trials: int | None = None,
    minutes: float = 0.0,
    jobs: int = 1,
    metric: str | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    seed: int = 0,
    storage: str = "",
    cluster: str = "",
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Sweep:
    """Search settings of `recipe` on `data`; returns the folder with sweep.json, best.yaml and report.html.

    settings: ranges ("1e-3..1e-1", "16..128"), choices ("sgd,adamw" or a list), and fixed values. trials: how many in
    all (20; of a grid all), those of earlier calls counted. minutes: of this call; what runs then is saved. jobs: at
    a time, on this machine or as jobs of `cluster` (slurm or local; its own settings are `cluster.minutes`
    and the like). metric: the recipe's `train.best_metric`. storage: a database's address in place of a file in the
    folder. The same call goes on with a sweep that was interrupted; several at a time share its trials. Raises
    SightlineError for all that is wrong with the space before anything starts, and (status 4) when interrupted.
    """
    need_optuna()
    from .board import Board
    from .cluster import refuse_cluster, split_cluster

    typed, options = split_cluster(dict(settings))
    refuse_cluster(cluster, options)
    refuse_numbers(trials, minutes, jobs, seed)
    if data is not None:
        typed["data.path"] = os.fspath(data)
    plan = checked(make_plan(recipe, typed, metric, sampler, pruner, seed))
    folder = Path(out) if out is not None else run_folder.default_folder(f"sweep-{plan.name}")
    run_folder.refuse_inside(folder, plan.data["path"])
    say: Callable[[str], None] = (lambda text: None) if quiet else speak
    count, walk, said = budget(plan, trials)
    plan = claim_folder(folder, plan, overwrite)
    board = Board(folder, plan, count, walk, storage)
    if said:
        say(said)
    if cluster:
        from .cluster import run_on_cluster

        run_on_cluster(board, cluster, options, jobs, minutes, storage, say)
    else:
        run_here(board, jobs, minutes, say)
    return ended(board, say)


def run_here(board: Any, jobs: int, minutes: float, say: Callable[[str], None]) -> None:
    """Work through the trials on this machine; SightlineError of status 4 where the user asks to stop."""
    from .work import Session, Teller, interrupted

    teller = Teller(board, say, jobs)
    if not teller.begin():
        return
    session = Session(board, jobs, threads_each(jobs), teller, time.monotonic() + 60 * minutes if minutes else 0.0)
    with StopRequest() as stop:
        try:
            session.start()
            session.join(lambda: stop.requested)
        finally:
            session.close()
    if session.error:
        raise session.error
    if session.interrupted:
        raise interrupted(session, f"{GO_ON}: {command()}")


def threads_each(jobs: int) -> int:
    """The processor threads of each of several trials at a time; 0: one alone may use what the recipe says."""
    from ..engine.device import processors

    return max(1, processors() // jobs) if jobs > 1 else 0


def command() -> str:
    """What was typed, to be typed again."""
    import shlex

    from ..runs.provenance import command_line

    return shlex.join(command_line())


def ended(board: Any, say: Callable[[str], None]) -> Sweep:
    """The results and the page of a sweep whose trials are done, or out of time; says what is best."""
    from ..report.sweep import write_sweep_report

    result = write_results(board)
    if result.best is None:
        states = [trial["state"] for trial in result.trials]
        left = board.trials - len(states) + states.count("running")
        why = f"{states.count('failed')} failed, {states.count('pruned')} were pruned, {left} are left"
        raise SightlineError("no trial has a result yet", where=str(board.folder), why=why, cure=GO_ON)
    for line in write_sweep_report(board.folder):
        say(line)
    left = board.trials - sum(trial["state"] != "running" for trial in result.trials)
    if left > 0:
        say(f"{left} of {board.trials} trials are not done: they run in another process, or {GO_ON}")
    say(f"report: {result.report}")
    return result


def refuse_numbers(trials: int | None, minutes: float, jobs: int, seed: int) -> None:
    """SightlineError naming every number that is none of its kind."""
    wrong = [f"--trials {trials}: 1 or more"] * (trials is not None and trials < 1)
    wrong += [f"--jobs {jobs}: 1 or more"] * (jobs < 1)
    wrong += [f"--minutes {minutes}: 0 (no limit) or more"] * (not minutes >= 0)
    wrong += [f"--seed {seed}: 0 or more"] * (seed < 0)
    if wrong:
        raise SightlineError("these numbers cannot be", why="; ".join(wrong), cure="sightline sweep --help")


def claim_folder(folder: Path, plan: Plan, overwrite: bool) -> Plan:
    """Write sweep.yaml, or check that the folder's own is this sweep; returns the plan that counts.

    SightlineError where the folder is a stranger's, or holds another sweep (unless `overwrite`).
    """
    if folder.exists() and not folder.is_dir():
        raise SightlineError("the sweep's folder is a file", where=str(folder), cure="choose another with --out")
    seen = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []
    if seen and FILE not in seen and set(seen) - {"claims"}:
        why = f"it holds {min(seen)!r} and no sweep"
        raise SightlineError("this folder is not empty", where=str(folder), why=why, cure="choose another with --out")
    with claims.turn(folder):
        old = load_plan(folder) if (folder / FILE).is_file() else None
        if old and overwrite:
            clear(folder)
            old = None
        if old is None:
            write_plan(folder, plan)
            return plan
        refuse_other(folder, old, plan)
        return replace(plan, data=old.data)


def clear(folder: Path) -> None:
    """Remove a sweep from its folder, and nothing else; SightlineError where another process works on it."""
    places = sorted(folder.glob("trial-[0-9][0-9][0-9][0-9]*"))
    held = [claims.take(folder, int(place.name.removeprefix("trial-"))) for place in places]
    for claim in held:
        if claim:
            claim.release()
    if not all(held):
        raise SightlineError("another process works on this sweep", where=str(folder), cure="wait for it, or end it")
    for place in places:
        shutil.rmtree(place)
    remove(folder / name for name in OWN if name != "claims")
    remove(path for path in (folder / "claims").iterdir() if path.name != "turn")


def speak(text: str) -> None:
    """A line to the user; nobody may be listening any more."""
    from ..runs.terminal import print_plain

    try:
        print_plain(printable(text))
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


__all__ = ["Sweep", "sweep"]
