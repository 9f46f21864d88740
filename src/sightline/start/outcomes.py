"""What became of the steps of a `sightline start`: kept in start.json, so that the same command goes on."""

import math
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import SightlineError
from ..report.compare.files import require_own_folder
from ..runs import run_folder
from ..runs.atomic import read_json, write_json

MARK = "start.json"
"""Name of the file by which the folder of a start is recognized."""
MORE = "give more time: --minutes "


@dataclass(frozen=True)
class Outcome:
    """What became of a step. trained: whether its run is finished. seconds: spent on it. why, cure: why it was left
    out, and what to do. network: seconds that were expected for its network and for decoding."""

    name: str
    title: str
    trained: bool
    seconds: float
    why: str = ""
    cure: str = ""
    network: float = 0.0


def read_outcomes(
    folder: Path,
    settings: Mapping[str, Any],
    overwrite: bool,
    pretrained: Collection[str] = (),
    digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Outcome]:
    """The outcomes of the steps of earlier calls with the same settings; steps that were left out count no time.

    pretrained: names of the steps to which the settings `weights` and `model` apply; these may change until the run of
    such a step is started. digests: of `data` and `weights`, see `Sizes`. Raises SightlineError if the folder has
    other content, or a start with other settings, data or weights; with `overwrite`, and if none of its steps is
    finished, the runs of that start are deleted.
    """
    known = read_json(folder / MARK)
    if not isinstance(known, dict):
        require_own_folder(folder, False, "start")
        return {}
    outcomes = {one["name"]: Outcome(**one) for one in known["steps"]}
    given = known["settings"]  # those of a command line are text
    changed = [key for key in {*given, *settings} if str(given.get(key)) != str(settings.get(key))]
    trained = {name for name, one in outcomes.items() if one.trained}
    used = any(name in trained or run_folder.is_started(folder / name) for name in pretrained)
    other = [name for name, digest in digests.items() if known.get(name, digest) != digest]
    other = [name for name in other if name == "data" or (used and "weights" not in changed)]
    if not other and (not changed or ({*changed} <= {"weights", "model"} and not used)):
        return {name: one for name, one in outcomes.items() if not one.why}
    if not overwrite and (trained or any(map(run_folder.is_finished, folder.glob("*/")))):
        was, now = known["settings"], settings
        differing = [
            f"{key} was {was.get(key, 'not set')}, is {now.get(key, 'not set')} now" for key in sorted(changed)
        ]
        differing += ["images were added, removed or changed, or have other labels"] * ("data" in other)
        differing += ["the file of the weights has other content"] * ("weights" in other)
        why = "; ".join(differing)
        omitted = {key: was[key] for key in sorted(changed) if key not in now}
        again = " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in omitted.items())
        cure = f"repeat the options of that start: {again}; or " * bool(omitted)
        cure += "choose another folder: --out FOLDER; or delete the runs in this one: --overwrite"
        what = "settings" if changed else " and ".join(other)
        raise SightlineError(f"this folder has a start with other {what}", where=str(folder), why=why, cure=cure)
    for recipe in folder.glob("*/recipe.yaml"):  # also of a step that was killed before its outcome was written
        shutil.rmtree(recipe.parent, ignore_errors=True)
    return {}


def write_outcomes(
    folder: Path, settings: Mapping[str, Any], outcomes: Mapping[str, Outcome], digests: Mapping[str, str]
) -> None:
    """Write start.json: the settings of all steps, digests of the data and the weights, and the outcomes so far."""
    steps = [asdict(one) for one in outcomes.values()]
    write_json(folder / MARK, {"format": 1, "settings": dict(settings), **digests, "steps": steps})


def more_time(outcomes: Sequence[Outcome]) -> str:
    """The advice to give more time, for all steps that were left out but the last one; without such, for that one; ""
    if there is none. The last step, training from scratch, may take many times as long."""
    cures = [one.cure for one in outcomes if one.cure.startswith(MORE)]
    several = [one.cure for one in outcomes[:-1] if one.cure.startswith(MORE)]
    return max(several or cures, key=lambda cure: float(cure.removeprefix(MORE)), default="")


def with_later_steps(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, whose advice to give more time counts the seconds of the steps that were trained after it: when the
    command is repeated, these are done, and count."""
    found = []
    for row, one in enumerate(outcomes):
        if one.cure.startswith(MORE):
            later = sum(each.seconds for each in outcomes[row + 1 :] if each.trained)
            one = replace(one, cure=f"{MORE}{math.ceil(float(one.cure.removeprefix(MORE)) + later / 60):.0f}")
        found.append(one)
    return found
