"""Checks of what pixels hold: channels, bits and color spaces that differ, unused bits, ranges of floats, NoData."""

from collections import Counter
from collections.abc import Sequence

from ..data.decode.kinds import Kind
from ..data.decode.survey import top_of
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
    """Find images of different kinds, unless all are converted (`one_kind` False), and properties of rasters."""
    usual = most_common(facts)
    found = []
    if one_kind:
        counts = Counter(fact.kind for fact in facts if fact.kind)
        texts = "; ".join(f"{count:,} hold {kind}" for kind, count in counts.most_common())
        others = [Group((fact.name,), str(fact.kind)) for fact in facts if odd(fact, usual)]
        found += finding("other_pixels", others, counts=texts)
    rasters = [fact for fact in facts if fact.kind and not fact.kind.plain and fact.kind == usual and not fact.why]
    if not rasters or usual is None:
        return found
    low, high = min(fact.extent[0] for fact in rasters), max(fact.extent[1] for fact in rasters)
    top = top_of(high)
    if usual.number == "uint16" and top < 2**16 - 1:
        largest = max(rasters, key=lambda fact: fact.extent[1])
        text = f"{int(top).bit_length()} of 16 bits"
        groups = [Group((largest.name,), f"the largest value, {high:,.0f}")]
        found += [one_for_all(one, text) for one in finding("unused_bits", groups, top=f"{top:,.0f}")]
    if usual.number not in ("uint8", "uint16") and not 0 <= low <= high <= 1:
        ends = [min(rasters, key=lambda fact: fact.extent[0]), max(rasters, key=lambda fact: fact.extent[1])]
        notes = [f"smallest value {low:g}", f"largest value {high:g}"]
        groups = [Group((fact.name,), note) for fact, note in zip(ends, notes, strict=True)]
        found += [one_for_all(one, f"{low:g} to {high:g}") for one in finding("value_range", groups)]
    empty = sorted((fact for fact in rasters if fact.missing >= EMPTY), key=lambda fact: -fact.missing)
    return found + finding("no_data", [Group((fact.name,), f"{fact.missing:.0%} without data") for fact in empty])


def one_for_all(one: Finding, text: str) -> Finding:
    """A finding on all images together, which is not counted: `what` with the text instead of a number."""
    return Finding(one.kind, one.severity, one.what.partition(" ")[2].format(text), one.why, one.cure, one.groups)
