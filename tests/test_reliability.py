"""The reliability harness: its short run holds, and the frame sees what dies, hangs, is skipped or sees nothing."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from reliability.catalog import CATALOG, STATUSES
from reliability.contract import Outcome, Row, Settings
from reliability.rows import ROWS

HERE = Path(__file__).resolve().parent.parent
RUN_TOYS = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from reliability.running import run_rows
from test_reliability import TOYS
print(json.dumps({{row["name"]: row["failures"] for row in run_rows(TOYS, True, 0, Path({folder!r}), 2)}}))
"""
BREAKS: list[str] = []


@contextlib.contextmanager
def _breaks() -> Generator[None]:
    BREAKS.append("now")
    yield
    BREAKS.clear()


@contextlib.contextmanager
def _changes_nothing() -> Generator[None]:
    yield


def _counts(settings: Settings) -> Outcome:
    return Outcome(settings.count(1000), tuple(BREAKS))


def _dies(settings: Settings) -> Outcome:
    os._exit(9)


def _raises(settings: Settings) -> Outcome:
    raise ValueError("of its own")


TOYS = [
    Row("good", "toys", "", _counts, {"broken": _breaks}),
    Row("blind", "toys", "", _counts, {"unseen": _changes_nothing}),
    Row("dies", "toys", "", _dies, {}),
    Row("raises", "toys", "", _raises, {}),
    Row("skipped", "toys", "", _counts, {}, unavailable=lambda: "no such disk here"),
    Row("nothing", "toys", "", lambda settings: Outcome(0, ()), {}),
]


def test_the_frame_sees_what_dies_raises_skips_and_what_a_check_does_not_see(tmp_path: Path) -> None:
    # A fresh interpreter, since a fork of the tests' own would carry their threads.
    script = RUN_TOYS.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    failures = json.loads(ran.stdout)
    assert failures["good"] == []
    assert failures["blind"] == ["does not detect: unseen (0 of 20: )"]
    assert "exit status 9" in failures["dies"][0]
    assert failures["raises"] == ["the check raised ValueError: of its own"]
    assert failures["skipped"] == ["skipped: no such disk here"]
    assert failures["nothing"] == ["no trial was made"]


def test_a_hanging_check_is_ended_and_a_failure(tmp_path: Path) -> None:
    script = (
        "import json, time; from pathlib import Path; import reliability.running as running;"
        "from reliability.contract import *; running.SHORT_LIMIT_SECONDS = 0.3;"
        f"row = Row('hangs', '', '', lambda settings: time.sleep(60), {{}});"
        f"print(json.dumps([r['failures'] for r in running.run_rows([row], True, 0, Path({str(tmp_path)!r}), 1)]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, timeout=30)
    assert "hung: killed after 0 s" in json.loads(ran.stdout)[0][0], ran.stderr


def test_the_short_run_holds(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "reliability", "--short", "--out", str(tmp_path)],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    rows = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    skipped = [row["failures"][0] for row in rows if row["failures"] and row["failures"][0].startswith("skipped: ")]
    failed = [row for row in rows if row["failures"] and not row["failures"][0].startswith("skipped: ")]
    assert not failed, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert (ran.returncode == 0) == (not skipped)
    assert all(row["trials"] and all(row["defects"].values()) for row in rows if not row["failures"])
    assert "classes of faults" in (tmp_path / "docs" / "reliability.md").read_text()
    if skipped:  # of the harness itself a failure; here a machine without a compiler, or without namespaces
        pytest.skip("; ".join(skipped))


def test_the_catalog_is_whole_and_every_proof_exists() -> None:
    numbers = {"I": 25, "L": 17, "S": 12, "D": 6, "T": 26, "C": 16, "R": 8, "W": 19, "K": 13}
    wanted = [f"{letter}{number}" for letter, count in numbers.items() for number in range(1, count + 1)]
    assert [fault.id for fault in CATALOG] == wanted and len(wanted) == 142
    rows = {row.name for row in ROWS}
    for fault in CATALOG:
        assert fault.status in STATUSES and fault.behavior, fault.id
        assert fault.proofs or fault.status == "open", f"{fault.id} has no proof"
        for proof in fault.proofs:
            file, _, test = proof.partition("::")
            if proof not in rows:
                assert (HERE / file).is_file(), f"{fault.id}: {proof}"
                assert not test or f"def {test}(" in (HERE / file).read_text(encoding="utf-8"), f"{fault.id}: {proof}"


def test_every_row_has_code_that_it_must_see_and_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.defects and row.promise and row.section for row in ROWS)


def test_the_page_tells_nothing_of_where_it_was_made() -> None:
    from reliability.page import anonymize_paths

    said = f"{HERE}/src/x.py, {sys.prefix}/lib, {sys.base_prefix}/lib, /dev/shm/reliability-ab_12xyz/run, /etc/x"
    assert anonymize_paths(said) == "./src/x.py, venv/lib, python/lib, trials/run, /etc/x"
