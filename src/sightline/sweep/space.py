"""What a sweep varies: `1e-3..1e-1`, `16..128`, `a,b,c` on the command line, checked before anything starts."""

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args, get_origin

import pydantic

from ..config.resolve import described, field_type, flat, from_text, placed
from ..config.schema import Config
from ..config.strict_yaml import parse_yaml
from ..errors import SightlineError, listing

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(?:(log|lin):)?\s*({NUMBER})\s*\.\.\s*({NUMBER})")
ORDERS = 10.0
"""Ends that differ by this factor or more are searched on a logarithmic scale, unless `lin:` stands before them."""
GRID_POINTS = 5
"""Values of a range in a grid."""
MOST_COMBINATIONS = 512
"""Combinations of ends and choices that are checked against the rules between settings; of more, a seeded sample."""
SAME_IMAGES = ("data.size", "data.fit", "data.filter")
"""The settings of data.* that leave the validation images what they are."""
WHERE = "the command line"


@dataclass(frozen=True)
class Range:
    """All numbers from low to high, both included; whole: only integers. log: by their logarithms."""

    low: float
    high: float
    whole: bool
    log: bool

    @property
    def candidates(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    @property
    def count(self) -> int | None:
        """How many values there are; None: no end of them."""
        return int(self.high - self.low) + 1 if self.whole else None

    def points(self) -> tuple[Any, ...]:
        """The values that stand for the range in a grid: GRID_POINTS of them, evenly on its scale."""
        if self.whole and self.count is not None and self.count <= GRID_POINTS:
            return tuple(range(int(self.low), int(self.high) + 1))
        shares = [place / (GRID_POINTS - 1) for place in range(GRID_POINTS)]
        if self.log:
            values = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            values = [self.low + (self.high - self.low) * share for share in shares]
        values = [self.low, *values[1:-1], self.high]  # the ends exactly, whatever rounding says
        return tuple(dict.fromkeys(round(value) for value in values)) if self.whole else tuple(values)

    def __str__(self) -> str:
        low, high = (f"{int(edge)}" if self.whole else repr(edge) for edge in (self.low, self.high))
        return f"{'log' if self.log else 'lin'}:{low}..{high}"


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Any, ...]

    @property
    def candidates(self) -> tuple[Any, ...]:
        return self.values

    @property
    def count(self) -> int | None:
        return len(self.values)

    def points(self) -> tuple[Any, ...]:
        return self.values

    def __str__(self) -> str:
        return ",".join(plain(value) for value in self.values)


Spec: TypeAlias = Range | Choices
Space: TypeAlias = dict[str, Spec]


def plain(value: Any) -> str:
    """A value as it is typed: true, 0.5, [1, 2]."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {plain(inner)}' for key, inner in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def read_space(base: Config, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Space]:
    """(fixed settings, what varies) out of settings as they were typed, or given in Python (a list: choices).

    Raises SightlineError that names everything wrong at once: keys that do not exist, ends and choices that a setting
    cannot take, values that go together with none of the others'.
    """
    fixed: dict[str, Any] = {}
    space: Space = {}
    faults: list[str] = []
    for key, value in flat(settings, WHERE).items():
        try:
            spec = read_spec(key, value)
        except ValueError as error:
            faults.append(f"{key}: {error}")
            continue
        values = spec.candidates if isinstance(spec, Range | Choices) else (spec,)
        wrong = [fault for one in values for fault in faults_alone(base, key, one)]
        wrong += [not_to_vary(key)] * (isinstance(spec, Range | Choices) and bool(not_to_vary(key)))
        faults += dict.fromkeys(wrong)
        if not wrong and isinstance(spec, Range | Choices):
            space[key] = spec
        elif not wrong:
            fixed[key] = spec
    if not faults:
        faults = faults_together(base, fixed, space)
    if faults:
        cure = "`sightline recipes NAME` shows every setting; ranges are 1e-3..1e-1 or 16..128, choices a,b,c"
        raise SightlineError("this cannot be searched", where=WHERE, why="\n" + listing(faults), cure=cure)
    return fixed, space


def read_spec(key: str, value: Any) -> Any:
    """A Range, Choices, or the one fixed value. Raises ValueError with what is wrong."""
    kind = field_type(key)
    if not isinstance(value, str):
        several = isinstance(value, list | tuple) and (
            not is_sequence(kind) or (bool(value) and all(isinstance(one, list | tuple) for one in value))
        )
        return choices_of(list(value)) if several else value
    text = value.strip()
    if key == "data.path":  # a path may hold commas
        return value
    found = RANGE.fullmatch(text)
    if found and kind not in (str, bool):
        return range_of(kind, *found.groups())
    if kind is not str and re.fullmatch(r"(log|lin):.*|[^\[{'\"]*[\d.]\.\.[\d.+-].*", text) and not is_names(kind):
        raise ValueError(f"{text!r} is no range; write 1e-3..1e-1, log:1e-3..1e-1 or 16..128")
    parts = split_choices(text)
    values = [parsed(key, part) for part in parts]
    return choices_of(values) if len(parts) > 1 else values[0]


def parsed(key: str, text: str) -> Any:
    """The value of one text, as `train` would read it; ValueError where it is none."""
    try:
        if field_type(key) is None and key.count(".") > 1:  # an argument of the model: no type is known
            return parse_yaml(text, WHERE)
        return from_text(key, text, WHERE)
    except SightlineError as error:
        raise ValueError(f"{text!r} cannot be read: {error.why or error.what}") from error


def is_sequence(kind: Any) -> bool:
    """Whether a setting's own value is a list."""
    return any(get_origin(one) is tuple for one in (kind, *get_args(kind)))


def is_names(kind: Any) -> bool:
    """Whether a setting is one of several words."""
    return bool(get_args(kind)) and all(isinstance(choice, str) for choice in get_args(kind))


def range_of(kind: Any, scale: str | None, first: str, last: str) -> Range:
    """The range between two numbers; ValueError where it is none for a setting of this type."""
    whole = all(re.fullmatch(r"[-+]?\d+", edge) for edge in (first, last)) and kind is not float
    if kind is int and not whole:
        raise ValueError(f"{first}..{last} must have whole numbers at its ends")
    low, high = (int(edge) if whole else float(edge) for edge in (first, last))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{first}..{last} has an end that is too large")
    if low >= high:
        raise ValueError(f"{first}..{last} has nothing in it: the smaller number comes first")
    if scale == "log" and low <= 0:
        raise ValueError(f"log:{first}..{last} needs a lower end above 0")
    log = scale == "log" or (scale is None and low > 0 and high / low >= ORDERS)
    return Range(low, high, whole, log)


def split_choices(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def choices_of(values: list[Any]) -> Choices:
    """Choices; ValueError where one is empty or stands twice."""
    if any(value is None or value == "" for value in values) or not values:
        raise ValueError("a choice is empty")
    shown = [plain(value) for value in values]
    twice = next((one for one in shown if shown.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"the choice {twice} stands twice")
    return Choices(tuple(values))


def not_to_vary(key: str) -> str:
    """Why trials that differ in a setting could not be compared, or ""."""
    if key in ("task", "name", "train.best_metric"):
        return f"{key}: this is the same for all trials; give one value" + " (--metric)" * key.endswith("metric")
    if key.startswith("data.") and key not in SAME_IMAGES:
        return f"{key}: trials on other images, labels or splits cannot be compared; give one value"
    return ""


def faults_alone(base: Config, key: str, value: Any) -> list[str]:
    """What is wrong with a value of a setting whatever the others are."""
    return faults_of(base, {key: value})[0]


def faults_of(base: Config, settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """(what is wrong with values by themselves, what is wrong between them)."""
    try:
        Config.model_validate(placed(base, settings, WHERE))
    except SightlineError as error:
        return [f"{error.what}; {error.cure}"], []
    except pydantic.ValidationError as error:
        alone: list[str] = []
        together: list[str] = []
        for fault in error.errors():
            rule = fault["type"] == "value_error" and isinstance(fault["input"], Mapping)
            (together if rule else alone).append(described(fault))
        return alone, together
    return [], []


def faults_together(base: Config, fixed: Mapping[str, Any], space: Space) -> list[str]:
    """Values that go together with none of the others', as far as ends and choices show it."""
    hopeful = {(key, place) for key, spec in space.items() for place in range(len(spec.candidates))}
    said: dict[tuple[str, int], str] = {}
    last = ""
    for places in combinations(space):
        values = {key: space[key].candidates[place] for key, place in places.items()}
        faults = [*faults_of(base, {**fixed, **values})[1], *faults_of(base, {**fixed, **values})[0]]
        if not faults:
            hopeful -= set(places.items())
            if not hopeful:
                return []
            last = "" if not space else last
        else:
            last = "; ".join(faults)
            said |= {place: last for place in places.items()}
    if not space:
        return [last] if last else []
    if len(hopeful) == len({(key, place) for key, spec in space.items() for place in range(len(spec.candidates))}):
        return [last]
    return [f"{key} = {plain(space[key].candidates[place])}: {said.get((key, place), last)}"
            for key, place in sorted(hopeful)]  # fmt: skip


def combinations(space: Space) -> Iterator[dict[str, int]]:
    """Combinations of ends and choices, by their places; all, or a sample in which each stands many times."""
    sizes = {key: len(spec.candidates) for key, spec in space.items()}
    if math.prod(sizes.values()) <= MOST_COMBINATIONS:
        for places in itertools.product(*(range(size) for size in sizes.values())):
            yield dict(zip(sizes, places, strict=True))
        return
    chance = random.Random(0)
    for turn in range(MOST_COMBINATIONS):
        yield {key: turn % size if chance.random() < 0.5 else chance.randrange(size) for key, size in sizes.items()}


def size_of(space: Space) -> int | None:
    """How many combinations there are; None: no end of them."""
    counts = [spec.count for spec in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def grid_of(space: Space, whole: bool = False) -> list[dict[str, Any]]:
    """Every combination of the points of each setting, the last setting changing fastest. whole: of all its values."""

    def values(spec: Spec) -> tuple[Any, ...]:
        if whole and isinstance(spec, Range):
            return tuple(range(int(spec.low), int(spec.high) + 1))
        return spec.points()

    return [dict(zip(space, row, strict=True)) for row in itertools.product(*map(values, space.values()))]


def as_typed(space: Space) -> dict[str, str]:
    """The space as one would type it, by setting."""
    return {key: str(spec) for key, spec in space.items()}
