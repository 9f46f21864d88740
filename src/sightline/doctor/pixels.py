"""What pixels hold: channels and bits that differ between images, the range of values, missing data."""

from collections import Counter
from collections.abc import Sequence

from ..data.decode.kinds import Kind
from ..data.decode.survey import top_of
from ..errors import counted
from .facts import Facts
from .findings import Finding, Group, finding

EMPTY = 0.5
"""An image is reported if at least this share of its values has no data."""


def with_odd_pixels(facts: Sequence[Facts]) -> list[Facts]:
    """The facts, in which images of another kind than most have a reason why they cannot be used."""
    usual = most_common(facts)
    cure = "convert or remove these images; or convert all to 8-bit RGB: --data.channels rgb"
    return [
        fact._replace(why=f"it holds {fact.kind}, and most images hold {usual}", cure=cure)
        if odd(fact, usual)
        else fact
        for fact in facts
    ]


def most_common(facts: Sequence[Facts]) -> Kind | None:
    """The kind of pixels that most images hold."""
    kinds = Counter(fact.kind for fact in facts if fact.kind)
    return kinds.most_common(1)[0][0] if kinds else None


def odd(fact: Facts, usual: Kind | None) -> bool:
    """Whether an image holds another kind of pixels than most."""
    return fact.kind not in (None, usual)


def pixel_checks(facts: Sequence[Facts], one_kind: bool) -> list[Finding]:
    """Find images of another kind than most, unless all are converted (`one_kind` False), and images mostly without
    data."""
    usual, found = most_common(facts), []
    if one_kind:
        counts = Counter(fact.kind for fact in facts if fact.kind)
        texts = "; ".join(f"{counted(count, 'image')}: {kind}" for kind, count in counts.most_common())
        others = [Group((fact.name,), str(fact.kind)) for fact in facts if odd(fact, usual)]
        found += finding("other_pixels", others, counts=texts)
    empty = sorted((fact for fact in facts if fact.missing >= EMPTY), key=lambda fact: -fact.missing)
    return found + finding("no_data", [Group((fact.name,), f"{fact.missing:.0%} without data") for fact in empty])


def values_text(facts: Sequence[Facts]) -> str:
    """The range of the values of images that are not 8-bit RGB, the bits that it needs, and the share without data; ""
    if there are none."""
    rasters = [fact for fact in facts if fact.kind and not fact.kind.plain and any(fact.extent)]
    if not rasters:
        return ""
    low, high = min(fact.extent[0] for fact in rasters), max(fact.extent[1] for fact in rasters)
    missing = sum(fact.missing for fact in rasters) / len(rasters)
    whole = all(fact.kind and fact.kind.number == "uint16" for fact in rasters)
    bits = f" ({int(top_of(high)).bit_length()} bits are used)" if whole else ""
    return f"values {low:,.6g} to {high:,.6g}{bits}" + (f", {missing:.1%} without data" if missing else "")
