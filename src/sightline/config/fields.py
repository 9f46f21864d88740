"""Building blocks of the configuration: the base class of its sections, and types of settings."""

import re
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field, PositiveFloat


def in_order(pair: tuple[float, float]) -> tuple[float, float]:
    """Validate a pair (smallest, largest) and return it; raises ValueError if the first number is larger."""
    if pair[0] > pair[1]:
        raise ValueError("the first value must not be larger than the second")
    return pair


def pair_or_empty(pair: tuple[int, ...]) -> tuple[int, ...]:
    """Validate a pair (height, width), or an empty tuple, and return it; raises ValueError for any other length."""
    if len(pair) not in (0, 2):
        raise ValueError("give a height and a width")
    return pair


def count_or_names(text: str) -> int | tuple[str, ...]:
    """Parse either a number of images, or comma-separated names of images. Digits with a leading zero, as in 0013,
    are a name. Raises ValueError for numbers that are not whole or are negative, for booleans and for empty names."""
    if text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"):
        return int(text)
    names = tuple(name.strip(" '\"") for name in text.strip("[] ").split(","))
    if not all(names) or text in ("true", "false") or (re.fullmatch(r"-?\d*\.?\d+(e\d+)?", text) and text[0] != "0"):
        raise ValueError("give a number of images, or their names separated by commas")
    return names


def names_in_text(value: Any) -> Any:
    """Split a text of names, separated by commas; other values are returned unchanged."""
    return (
        tuple(name.strip(" '\"") for name in value.strip("[] ").split(",") if name) if isinstance(value, str) else value
    )


def channel_names(value: Any) -> Any:
    """Convert the names or numbers of channels to texts; `auto` and `rgb` are returned unchanged. Raises ValueError for
    anything else."""
    if value in ("auto", "rgb"):
        return value
    values = names_in_text(value) if isinstance(value, str) else value if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(one, str | int) and not isinstance(one, bool) and one != "" for one in values):
        raise ValueError("give auto, rgb, or names or numbers of channels, such as [red, green, nir] or [4, 3, 2]")
    return tuple(str(one) for one in values)


def as_tuples(value: Any) -> Any:
    """Convert lists to tuples, also within lists and mappings."""
    if isinstance(value, dict):
        return {key: as_tuples(inner) for key, inner in value.items()}
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


LARGEST = 2**31 - 1  # larger integers are mistakes that would overflow later
Probability = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
Channel = Annotated[int, Field(ge=0, le=255)]
Window = Annotated[tuple[Count, ...], pydantic.AfterValidator(pair_or_empty)]
Range = Annotated[tuple[PositiveFloat, PositiveFloat], pydantic.AfterValidator(in_order)]
Names = Annotated[tuple[str, ...], pydantic.BeforeValidator(names_in_text)]
ShareRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], pydantic.AfterValidator(in_order)
]


class Section(pydantic.BaseModel):
    """Base class of the sections of a configuration. Sections are immutable, accept no unknown keys, and do not
    convert types ("yes" is not a boolean)."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A copy of the section with other values of some settings, which are not validated."""
        assert changes.keys() <= type(self).model_fields.keys(), f"{type(self).__name__} has not all of {[*changes]}"
        return self.model_copy(update=changes)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return as_tuples(value)  # YAML has no tuples
