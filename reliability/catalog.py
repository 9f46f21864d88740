"""The catalog of 142 faults: what Sightline gives for each, and where that is proved."""

import dataclasses

STANDS = {"holds": "as promised", "partly": "less than the catalog asks; the cell says what", "open": "not yet"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """`proofs`: node ids of tests (`tests/x.py::test_y`) or names of rows of the harness."""

    id: str
    section: str
    fault: str
    gives: str
    proofs: tuple[str, ...] = ()
    stands: str = "holds"


CATALOG: tuple[Fault, ...] = ()
