"""The catalog of 142 faults (catalog.csv): what Sightline gives for each, and where that is proved."""

import csv
import dataclasses
from pathlib import Path

STANDS = {
    "holds": "as the catalog asks",
    "partly": "less than it asks; the cell says what",
    "open": "nothing yet; the cell says why",
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
    """`proofs`: node ids of tests (`tests/x.py::test_y`, or a whole file) or names of rows of the harness."""

    id: str
    fault: str
    gives: str
    stands: str
    proofs: tuple[str, ...]

    @property
    def section(self) -> str:
        return SECTIONS[self.id[0]]


def _read() -> tuple[Fault, ...]:
    with open(Path(__file__).with_name("catalog.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return tuple(
        Fault(row["id"], row["fault"], row["gives"], row["stands"], tuple(filter(None, row["proofs"].split("; "))))
        for row in rows
    )


CATALOG: tuple[Fault, ...] = _read()
