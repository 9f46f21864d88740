"""A short version of benchmarks/claims.py, and its page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import claims

    return claims


@pytest.mark.slow
def test_the_rates_of_claims_meet_their_targets(claims: Any) -> None:
    broken = []
    for claim in claims.CLAIMS:
        for row in (row for row in claim.rows if row.quick):
            found = claims.measured(row, row.quick_size or row.sizes[0], row.quick, claims.key_of(claim, row))
            if not found.meets(row.target, errors=4):
                broken.append(f"{claims.key_of(claim, row)}: {claims.rate_text(found)}")
    assert not broken, "\n".join(broken)


def test_the_page_has_the_results_of_all_rows(claims: Any) -> None:
    results = json.loads(claims.RESULTS.read_text())
    rows = {claims.key_of(claim, row): row for claim in claims.CLAIMS for row in claim.rows}
    assert results.keys() == rows.keys(), "run python benchmarks/claims.py"
    assert all([one["images"] for one in results[key]] == list(row.sizes) for key, row in rows.items())
    assert claims.PAGE.read_text() == claims.page(results), "run python benchmarks/claims.py --write"


def test_a_rate_of_zero_has_an_error_and_missing_data_are_no_rate(claims: Any) -> None:
    from claim_rows.row import NoData, Row

    never = Row("", "false alarms", lambda rng, sets, count: [0.0] * sets, (0, 0.05), (10,))
    found = claims.measured(never, 10, 400, "")
    assert found.rate == 0 and 0 < found.error < 0.01 and found.meets((0, 0.05)) and not found.meets((0.9, 1))
    some = Row("", "coverage", lambda rng, sets, count: [1.0, 0.0, np.nan, 1.0], None, (10,))
    assert claims.measured(some, 10, 4, "").sets == 3

    def missing(rng: np.random.Generator, sets: int, count: int) -> list[float]:
        raise NoData("not measured: photographs")

    found = claims.measured(Row("", "recall", missing, (0, 1), (10,)), 10, 4, "")
    assert found.why == "not measured: photographs" and not found.meets((0, 1))
