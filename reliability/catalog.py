"""The catalog of 142 faults (catalog.csv): how Sightline behaves on each, and which tests prove it."""

import csv
import dataclasses
from pathlib import Path

STATUSES = {
    "holds": "as required",
    "partly": "less than required; the description names the gap",
    "open": "not handled; the description gives the reason",
}
SECTIONS = {
    "I": "Images",
    "L": "Labels",
    "S": "Masks",
    "D": "Leaks",
    "T": "Training",
    "C": "Checkpoints",
    "R": "Distributed",
    "W": "Servers and reports",
    "K": "Settings",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A row of the catalog. status: a key of STATUSES. proofs: node IDs of tests (`tests/x.py::test_y`, or a whole
    file) or names of rows of the harness."""

    id: str
    fault: str
    behavior: str
    status: str
    proofs: tuple[str, ...]

    @property
    def section(self) -> str:
        """The section's name, from the letter at the start of the ID."""
        return SECTIONS[self.id[0]]


def _read() -> tuple[Fault, ...]:
    with open(Path(__file__).with_name("catalog.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return tuple(
        Fault(row["id"], row["fault"], row["behavior"], row["status"], tuple(filter(None, row["proofs"].split("; "))))
        for row in rows
    )


CATALOG: tuple[Fault, ...] = _read()
