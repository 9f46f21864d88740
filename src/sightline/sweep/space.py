"""The search space of a sweep: parse and validate `1e-3..1e-1`, `16..128` and `a,b,c`."""

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin

import numpy as np
import pydantic

from ..config.resolve import field_type, flat, format_fault, from_text, insert_settings
from ..config.schema import Config
from ..config.strict_yaml import parse_yaml
from ..errors import SightlineError, listing

if TYPE_CHECKING:
    import optuna

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(?:(log|lin):)?\s*({NUMBER})\s*\.\.\s*({NUMBER})")
LOG_FACTOR = 10.0
"""A range is sampled on a logarithmic scale if its upper end is at least this factor above its lower end, unless it
begins with `lin:`."""
GRID_POINTS = 5
"""Number of values of a range in a grid, unless it is a range of fewer integers."""
MAX_COMBINATIONS = 512
"""Maximum number of combinations (of ends of ranges and of choices) that are validated before the sweep starts. Of
larger search spaces, this number of random combinations is validated."""
COMPARABLE = ("data.size", "data.fit", "data.filter", "data.eval_crop")
"""Settings of data.* that may differ between trials, because the validation images remain the same."""
WHERE = "the command line"


@dataclass(frozen=True)
class Range:
    """The numbers from low to high, both included. integer: only whole numbers. log: whether to sample on a
    logarithmic scale."""

    low: float
    high: float
    integer: bool
    log: bool

    @property
    def candidates(self) -> tuple[Any, ...]:
        """The values that are validated before the sweep starts: both ends."""
        return (self.low, self.high)

    @property
    def count(self) -> float:
        """The number of values in the range; infinite for floats."""
        return self.high - self.low + 1 if self.integer else math.inf

    def values(self, limit: float = GRID_POINTS) -> tuple[Any, ...]:
        """The values of the range in a grid: all integers if there are at most `limit`, else GRID_POINTS values that
        are evenly spaced on the linear or logarithmic scale of the range."""
        if self.integer and self.count <= limit:
            return tuple(range(int(self.low), int(self.high) + 1))
        points = (np.geomspace if self.log else np.linspace)(self.low, self.high, GRID_POINTS).tolist()
        return tuple(dict.fromkeys(round(point) for point in points)) if self.integer else tuple(points)

    def suggest(self, trial: "optuna.Trial", key: str) -> None:
        """Sample a value of the setting `key` for a trial that does not have one."""
        if self.integer:
            trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        else:
            trial.suggest_float(key, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        low, high = (f"{int(end)}" if self.integer else repr(end) for end in (self.low, self.high))
        return f"{'log' if self.log else 'lin'}:{low}..{high}"


@dataclass(frozen=True)
class Choices:
    """A list of values from which each trial has one."""

    candidates: tuple[Any, ...]

    @property
    def count(self) -> float:
        return len(self.candidates)

    def values(self, limit: float = GRID_POINTS) -> tuple[Any, ...]:
        return self.candidates

    def suggest(self, trial: "optuna.Trial", key: str) -> None:
        trial.suggest_categorical(key, [format_value(value) for value in self.candidates])

    def from_text(self, text: str) -> Any:
        """The choice whose text, as stored by Optuna, is `text`."""
        return next(one for one in self.candidates if format_value(one) == text)

    def __str__(self) -> str:
        return ",".join(map(format_value, self.candidates))


Space: TypeAlias = dict[str, Range | Choices]


def format_value(value: Any, digits: int = 0) -> str:
    """Format a value as on the command line: true, 0.5, [1, 2]. digits: significant digits of floats; 0: as many as
    needed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_value(inner, digits) for inner in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_value(inner, digits)}' for key, inner in value.items())}}}"
    if isinstance(value, float) and digits:
        return f"{value:.{digits}g}"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def read_space(base: Config, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Space, dict[str, Any]]:
    """Split settings into (fixed values, search space, one valid combination of its values). A list means choices.

    Raises one SightlineError for all errors: unknown keys, ends of ranges and choices that are invalid for a setting,
    and values that are not valid in any combination with the other settings.
    """
    fixed: dict[str, Any] = {}
    space: Space = {}
    faults: list[str] = []
    for key, value in flat(settings, WHERE, type(base)).items():
        try:
            spec = read_spec(key, value, type(base))
        except ValueError as error:
            faults.append(f"{key}: {error}")
            continue
        varies = isinstance(spec, Range | Choices)
        candidates = spec.candidates if varies else (spec,)
        wrong = [fault for candidate in candidates for fault in config_faults(base, {key: candidate})[0]]
        wrong += [f"{key}: {reason}" for reason in [why_fixed(key)] if reason and varies]
        faults += dict.fromkeys(wrong)
        (space if varies else fixed)[key] = spec
    first: dict[str, Any] = {}
    if not faults:
        first, faults = first_combination(base, fixed, space)
    if faults:
        cure = (
            "write ranges as --optim.lr 1e-3..1e-1, and choices as --optim.name sgd,adamw; for all settings: "
            "sightline recipes NAME --all"
        )
        raise SightlineError("the search space is invalid", where=WHERE, why="\n" + listing(faults), cure=cure)
    return fixed, space, first


def read_spec(key: str, value: Any, config: type[Config] = Config) -> Any:
    """Parse the value of one setting into a Range, Choices, or a single value. Raises ValueError if it is invalid."""
    kind = field_type(key, config)
    if isinstance(value, list | tuple):
        takes_lists = any(get_origin(one) is tuple for one in (kind, *get_args(kind)))
        nested = bool(value) and all(isinstance(one, list | tuple) for one in value)
        return choices_of(list(value)) if nested or not takes_lists else value
    if not isinstance(value, str) or key == "data.path":  # a path may contain commas
        return value
    text = value.strip()
    found = RANGE.fullmatch(text)
    if found and kind not in (str, bool):
        return range_of(kind, *found.groups())
    words = kind is str or (bool(get_args(kind)) and all(isinstance(choice, str) for choice in get_args(kind)))
    try:
        values = [part.strip() for part in text.split(",")] if words else parse_yaml(f"[{text}]", WHERE)
        return choices_of(values) if len(values) > 1 else from_text(key, text, WHERE, config)
    except SightlineError as error:
        raise ValueError(f"{text!r} cannot be read: {error.why or error.what}") from error


def range_of(kind: Any, scale: str | None, first: str, last: str) -> Range:
    """Create the range between two numbers. Raises ValueError if it is invalid for a setting of type `kind`."""
    integer = all(re.fullmatch(r"[-+]?\d+", end) for end in (first, last)) and kind is not float
    if kind is int and not integer:
        raise ValueError(f"{first}..{last} must have whole numbers at its ends")
    low, high = (int(end) if integer else float(end) for end in (first, last))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{first}..{last} has an end that is too large")
    if low >= high:
        raise ValueError(f"{first}..{last} is empty: write the smaller number first")
    if scale == "log" and low <= 0:
        raise ValueError(f"log:{first}..{last} needs a lower end above 0")
    log = scale == "log" or (scale is None and low > 0 and high / low >= LOG_FACTOR)
    return Range(low, high, integer, log)


def choices_of(values: list[Any]) -> Choices:
    """Create Choices from a list of values. Raises ValueError if a choice is empty or listed twice."""
    if any(value is None or value == "" for value in values) or not values:
        raise ValueError("a choice is empty")
    texts = [format_value(value) for value in values]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise ValueError(f"the choice {twice} is given twice")
    return Choices(tuple(values))


def why_fixed(key: str) -> str:
    """The reason why a setting must be equal in all trials; "" if it may vary."""
    if key in ("task", "name", "train.best_metric"):
        return "all trials need the same value; give one" + " (--metric)" * key.endswith("metric")
    if key.startswith("data.") and key not in COMPARABLE:
        return "trials with different images, labels or splits cannot be compared; give one value"
    return ""


def config_faults(base: Config, settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Validate settings together with the recipe `base`.

    Returns (errors of single values, errors of combinations of settings).
    """
    try:
        type(base).model_validate(insert_settings(base, settings, WHERE))
    except SightlineError as error:
        return [f"{error.what}; {error.cure}"], []
    except pydantic.ValidationError as error:
        single: list[str] = []
        rules: list[str] = []
        for fault in error.errors():
            is_rule = fault["type"] == "value_error" and isinstance(fault["input"], Mapping)
            (rules if is_rule else single).append(format_fault(fault, type(base)))
        return single, rules
    return [], []


def first_combination(base: Config, fixed: Mapping[str, Any], space: Space) -> tuple[dict[str, Any], list[str]]:
    """(the first valid combination of ends of ranges and choices, errors of values without a valid combination).

    If no combination is valid: ({}, [the last error]).
    """
    first: dict[str, Any] | None = None
    accepted: set[tuple[str, str]] = set()
    rejected: dict[tuple[str, str], str] = {}
    for values in combinations(space):
        pairs = [(key, format_value(value)) for key, value in values.items()]
        single, rules = config_faults(base, {**fixed, **values})
        if single or rules:
            rejected |= dict.fromkeys(pairs or [("", "")], "; ".join([*rules, *single]))
        else:
            accepted |= set(pairs)
            first = values if first is None else first
    if first is None:
        return {}, list(rejected.values())[-1:]
    return first, [f"{key} = {value}: {why}" for (key, value), why in rejected.items() if (key, value) not in accepted]


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """Yield combinations of ends of ranges and choices: all, or if there are more than MAX_COMBINATIONS, this number
    of random ones with a fixed seed."""
    candidates = {key: spec.candidates for key, spec in space.items()}
    if math.prod(map(len, candidates.values())) <= MAX_COMBINATIONS:
        yield from grid(candidates)
        return
    generator = random.Random(0)
    for _ in range(MAX_COMBINATIONS):
        yield {key: generator.choice(values) for key, values in candidates.items()}


def grid(values: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every combination of the values of all settings; the last setting changes fastest."""
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
