"""`sightline start`: train baselines and networks within a time, and say which step was worth it."""

import contextlib
import math
import os
import shlex
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config.paths import absolute, absolute_or_name, path_of
from ..config.resolve import resolve
from ..config.schema import Config, Data
from ..data.label_arrays import are_numbers, are_sets
from ..data.sources.open import open_source
from ..data.sources.pairs import is_segmentation, open_pairs
from ..data.sources.row_matching import table_hint
from ..data.types import Source
from ..doctor.quick import divided_films
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError
from ..models.encoder_weights import require_weights
from ..recipes.ladders import LadderStep
from ..report.formatting import duration
from ..runs import run_folder
from ..runs.lock import lock_run
from ..runs.log import said_once
from ..runs.signals import StopRequest
from ..runs.terminal import print_plain
from ..tasks import TASKS, task_learning_from
from ..tasks.files import load_recipe_file
from ..tasks.opening import opened_once
from ..train import resume, train
from ..user_code import accepts_code
from .outcomes import MORE, Outcome, read_outcomes, write_outcomes
from .plan import OVERHEAD, Fit, Sizes, TooLong, fitted, for_few_images, ladder, require_settings
from .pretrained import unavailable
from .results import StartResult, write_result

MANY_IMAGES, MOST_HELD_OUT = 1000, 0.3
"""Of fewer images than MANY_IMAGES without a validation split, about 100 are held out, at most MOST_HELD_OUT of all."""
LATE, SHORTEST_LIMIT = 1.25, 60.0
"""A step is stopped after LATE times the seconds that were left at its start, but not before SHORTEST_LIMIT."""
MARGIN = 1.25
"""Factor on the seconds of steps that did not fit, in the advice to give more time."""
OF_WEIGHTS = ("model.weights", "--weights")
"""Where errors are that leave out a step, because its weights cannot be had."""
RESERVE = 15.0
"""Seconds for the comparison after the last step."""


@dataclass
class Climb:
    """A call of `sightline start`. settings: of all steps, with `weights` and `model` if they were given. outcomes: of
    the steps so far, by name. side: of the images of the pre-trained steps, 0 before the first one. missing: seconds of
    the steps that did not fit into the time. compared: seconds of the comparisons between steps."""

    source: Source
    folder: Path
    settings: dict[str, Any]
    sizes: Sizes
    minutes: float
    say: Callable[[str], None]
    quiet: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    side: int = 0
    missing: float = 0.0
    compared: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds of the steps that are done."""
        return sum(one.seconds for one in self.outcomes.values())

    @property
    def left(self) -> float:
        """Remaining seconds for steps."""
        return 60 * self.minutes - RESERVE - self.spent - self.compared


@accepts_code
@opened_once()
@said_once()
def start(
    data: str | os.PathLike[str],
    *,
    minutes: float = 10.0,
    weights: str = "",
    model: str = "",
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> StartResult:
    """Train steps from baselines to networks on `data` within `minutes`, and compare them on the validation images.

    The steps are ordinary runs in the folder `out` (runs/start by default), cheapest first: the frequencies of the
    classes, k-NN on raw pixels, k-NN and logistic regression on the frozen features of a pre-trained network, fine-
    tuning of this network, and training from scratch. Steps that do not fit into the time, or whose weights cannot be
    had, are left out. Nothing is chosen on the validation images within a step. weights: of the pre-trained network,
    as `model.weights`; `none` for no pre-trained steps. model: its name, as `model.name`. settings: of all steps.
    Weights that do not exist are an error before the data are opened.

    The same call resumes an interrupted start, and with more minutes adds steps. Raises SightlineError for data that
    no step can be trained on, and with status 4 when interrupted.
    """
    if not 0 < minutes < math.inf:
        cure = "give a positive, finite number of minutes: --minutes 10"
        raise SightlineError(f"minutes is {minutes:g}", where="sightline start", why="every step takes time", cure=cure)
    if "model.name" in settings:
        cure = f"name the network of the pre-trained steps: --model {settings['model.name']}"
        why = "the steps have different networks"
        raise SightlineError("model.name is not a setting of all steps", where="--model.name", why=why, cure=cure)
    require_settings(settings)
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    weights = weights or str(settings.pop("model.weights", ""))
    wanted = settings | {"data.path": absolute_or_name(os.fspath(data))}
    with option_names():
        error = unavailable(weights, model) if weights != "none" else None
    if error:
        have = "" if weights else "if you have such a file: --weights FILE; "
        say(f"note: {error.what}: {error.why}; pre-trained steps are left out\n  {have}{typed(error.cure)}")
    kind, source, wanted = look(wanted, say, films=True)
    folder = path_of(out) if out is not None else run_folder.default_folder("start")
    run_folder.require_outside_data(folder, wanted["data.path"])
    steps, sizes = ladder(kind, source, weights, model, wanted), Sizes.of(source, weights)
    with lock_run(folder) as note:
        if note:
            say(f"warning: {note}")
        asked = wanted | {name: value for name, value in (("weights", weights), ("model", model)) if value}
        pretrained = [step.name for step in steps if step.pretrained]
        outcomes = read_outcomes(folder, asked, overwrite, pretrained, sizes.digests)
        climb = Climb(source, folder, asked, sizes, minutes, say, quiet, outcomes)
        write_outcomes(folder, asked, outcomes, sizes.digests)
        signals = StopRequest.received
        steps = [step for step in steps if not (step.pretrained and weights == "none")]
        for step, later in zip(steps, range(1, len(steps) + 1), strict=True):
            with option_names():
                taken = take(climb, step)
            if StopRequest.received > signals:
                raise interrupted(folder)
            if taken and later < len(steps):
                say_so_far(climb, steps[later:])
        result = write_result(folder, asked, [*climb.outcomes.values()])
        if (over := climb.spent - 60 * minutes) > 0:
            say(f"\nThe steps took {duration(over)} more than {minutes:g} min: estimates are from a few steps.")
    said = ["", *result.sentences, f"report: {result.report}", f"next, {result.used}:"]
    say("\n".join([*said, *(f"  {line}" for line in result.next)]))
    return result


def look(
    settings: dict[str, Any], say: Callable[[str], None], films: bool = False
) -> tuple[str, Source, dict[str, Any]]:
    """Open the data, and print what was understood: (what a task can learn from them, the data, the settings).

    films: whether to read the images to warn of films that the split divides. Raises SightlineError for data without
    labels or masks, and for numbers.
    """
    data = resolve(Config(), {key: value for key, value in settings.items() if key.startswith("data.")}).data
    masked = is_segmentation(data)
    opened = open_pairs(data, data.split_seed, hold_out=False)[0] if masked else None
    source = opened or open_source(data, data.split_seed, hold_out=False)
    kind = "masks" if masked else kind_of(source, data)
    config = resolve(task_learning_from(kind).config(), settings)
    opener = TASKS[config.task].open
    total = (
        0 if "val" in source.splits else sum(len(source.splits[name].names) for name in source.splits if name != "test")
    )
    if total and total < MANY_IMAGES and "data.val_fraction" not in settings:
        settings = settings | {"data.val_fraction": round(min(MOST_HELD_OUT, max(0.1, 100 / total)), 2)}
        config = resolve(config, settings)
    opened = opener(config, say)
    if films and (divided := divided_films(source, data)):
        say(f"warning: {divided}")
    counts = ", ".join(f"{len(items.names):,} in {name}" for name, items in opened.splits.items())
    say(f"{len(opened.classes):,} classes; images: {counts}; {TASKS[config.task].does}")
    return kind, opened, settings


def kind_of(source: Source, data: Data) -> str:
    """What a task can learn from images without masks: "labels" or "label sets". Raises SightlineError for others."""
    labels = [items.labels for items in source.splits.values() if items.labels is not None]
    if not labels:
        why = "`sightline start` compares steps by their accuracy on labeled images"
        cure = table_hint(source.path, data).replace("--data ", "sightline start ")
        cure += (
            "put the images of each class into a folder of its own; or pre-train without labels: sightline train "
            f"moco_fast --data {shlex.quote(data.path)}"
        )
        raise SightlineError("these images have no labels", where=data.path, why=why, cure=cure)
    if any(map(are_numbers, labels)):
        cure = "see docs/extend.md, which trains networks that predict numbers"
        raise SightlineError("`sightline start` has no steps for labels that are numbers", where=data.path, cure=cure)
    return "label sets" if any(map(are_sets, labels)) else "labels"


def take(climb: Climb, step: LadderStep) -> bool:
    """Train or resume the run of a step, or note why it is left out; returns whether it was trained now."""
    run, before = climb.folder / step.name, climb.outcomes.get(step.name)
    if before and before.trained:
        climb.say(
            f"{before.title}: done, in {duration(before.seconds)}, which count toward --minutes {climb.minutes:g}"
        )
        climb.side = side_after(climb, step)
        return False
    begin = time.monotonic()
    outcome = before or Outcome(step.name, step.title, False, 0.0)
    try:
        if run_folder.is_started(run):
            climb.say(f"\n{step.title}: resuming")
            resume(run, quiet=climb.quiet)
        else:
            if step.pretrained:
                require_weights(step.config.model.weights, step.config.model.name, step.config.model.args)
            fit = fit_of(climb, for_few_images(after_earlier(climb, step), climb.sizes.train))
            outcome = replace(outcome, network=fit.network, title=titled(step, fit.config))
            climb.say(f"\n{outcome.title}: about {duration(fit.seconds)} of the {duration(climb.left)} that are left")
            train(limited(fit.config, climb.left), out=run, overwrite=True, quiet=climb.quiet)
        climb.side = side_after(climb, step)
        outcome = replace(outcome, trained=True, title=outcome.title + cut_off(run))
    except TooLong as error:
        outcome = replace(outcome, title=step.title, network=0.0, **left_out(climb, error))
    except SightlineError as error:
        if error.status == INTERRUPTED:
            raise interrupted(climb.folder) from error
        if not (step.pretrained and (error.status == ENVIRONMENT or error.where.startswith(OF_WEIGHTS))):
            raise
        why = f"{error.what}: {error.why}" if error.why else error.what
        outcome = replace(outcome, why=why, cure=typed(error.cure))
    finally:
        climb.outcomes[step.name] = replace(outcome, seconds=outcome.seconds + time.monotonic() - begin)
        write_outcomes(climb.folder, climb.settings, climb.outcomes, climb.sizes.digests)
    if outcome.why:
        known = any(one.why == outcome.why for one in climb.outcomes.values() if one.name != step.name)
        reason = "for the same reason" if known else f"because {outcome.why}\n  {outcome.cure}"
        climb.say(f"\n{step.title}: left out, {reason}")
    return outcome.trained


def say_so_far(climb: Climb, coming: Sequence[LadderStep]) -> None:
    """Write the report of the steps so far, if there are two to compare, so that nobody waits for the last one."""
    if sum(one.trained for one in climb.outcomes.values()) < 2:
        return
    begin = time.monotonic()
    titles = [step.title for step in coming]
    result = write_result(climb.folder, climb.settings, [*climb.outcomes.values()], titles)
    climb.compared += time.monotonic() - begin
    climb.say(f"\nso far: {result.sentences[0]}\nreport so far: {result.report}")


def left_out(climb: Climb, error: TooLong) -> dict[str, str]:
    """Why a step does not fit, and the minutes with which it would: with a margin, as the time of a step is estimated
    anew by each call."""
    left, network = duration(max(climb.left, 0.0)), 0.0 if error.timed else error.seconds
    climb.missing += MARGIN * (error.seconds + network)  # the time of its network is unknown: as much again
    seconds = climb.missing + MARGIN * (error.needed - error.seconds) - climb.left
    what = "it takes" if error.timed else "a run takes, besides its network,"
    why = f"{what} about {duration(error.seconds)}, and {left} are left"
    if error.seconds <= climb.left:
        why += f", of which it may take {error.share:.0%}"
    return {"why": why, "cure": f"{MORE}{np.ceil(climb.minutes + seconds / 60):.0f}"}


def limited(config: Config, left: float) -> Config:
    """The recipe of a step with a limit, should the machine be slower than it was when the step was estimated: LATE of
    the seconds that are left, and at least SHORTEST_LIMIT."""
    if config.train.max_minutes or config.train.epochs < 2:
        return config
    return resolve(config, {"train.max_minutes": round(max(LATE * left, SHORTEST_LIMIT) / 60, 2)})


def fit_of(climb: Climb, step: LadderStep) -> Fit:
    """The step that fits into the remaining time. A network for images of one side, such as a vision transformer, is
    trained at the full side in all epochs."""
    arguments = climb.source, climb.sizes, climb.left, overhead(climb), climb.side
    try:
        return fitted(step, *arguments)
    except SightlineError as error:
        if error.where != "augment.progressive":
            raise
        return fitted(replace(step, config=resolve(step.config, {"augment.progressive": ()})), *arguments)


def side_after(climb: Climb, step: LadderStep) -> int:
    """The side of the images of the pre-trained steps, after the run of `step` is finished."""
    return load_recipe_file(climb.folder / step.name / "recipe.yaml").data.size if step.pretrained else climb.side


def cut_off(run: Path) -> str:
    """What to add to the title of a step that ended before its last epoch; otherwise ""."""
    epochs, record = load_recipe_file(run / "recipe.yaml").train.epochs, run_folder.final_record(run) or {}
    done = record.get("epoch", epochs)
    return f", stopped by the time limit after epoch {done:g} of {epochs}" if done < epochs else ""


def titled(step: LadderStep, config: Config) -> str:
    """The title of a step, with what was chosen for it to fit into the time."""
    side = f" at {config.data.size} pixels" if step.sides else ""
    if step.epochs is None or config.train.epochs < 2:
        return step.title + side * (config.data.size < max(step.sides, default=0))
    return f"{step.title} ({config.train.epochs} epochs{side})"


@contextlib.contextmanager
def option_names() -> Generator[None]:
    """Errors about weights name the options of this command, instead of the settings of a run."""
    try:
        yield
    except SightlineError as error:
        where, cure = error.where.replace("model.weights", "--weights"), typed(error.cure)
        raise SightlineError(error.what, where=where, why=error.why, cure=cure, status=error.status) from error


def typed(cure: str) -> str:
    """A cure with the options of this command for the weights and the network."""
    return cure.replace("--model.weights", "--weights").replace("--model.name", "--model")


def after_earlier(climb: Climb, step: LadderStep) -> LadderStep:
    """The step, with the weights of the run of the step `begins_with`, if it is trained."""
    earlier = climb.outcomes.get(step.begins_with)
    if not (earlier and earlier.trained):
        return step
    run = absolute(os.fspath(climb.folder / earlier.name))
    return replace(step, config=resolve(step.config, {"model.weights": run}))


def overhead(climb: Climb) -> float:
    """Seconds that a run takes besides its network: the fewest of the steps so far, or OVERHEAD before the first."""
    done = [max(one.seconds - one.network, 0.0) for one in climb.outcomes.values() if one.trained]
    return min(done, default=OVERHEAD)


def interrupted(folder: Path) -> SightlineError:
    """The error of an interrupted start, with the command that resumes it."""
    cure = f"run the same command again to resume the runs in {shlex.quote(str(folder))}"
    return SightlineError("the start was interrupted", where=str(folder), cure=cure, status=INTERRUPTED)
