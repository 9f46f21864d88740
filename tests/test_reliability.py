"""The reliability harness: its short run passes, and failures of the checks themselves are reported."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from reliability.catalog import CATALOG, STATUSES
from reliability.contract import Outcome, Row, Settings
from reliability.rows import ROWS
from reliability.rows.signals import PHASES

HERE = Path(__file__).resolve().parent.parent
RUN_TOYS = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from reliability.running import run_rows
from test_reliability import TOYS
print(json.dumps({{row["name"]: row["failures"] for row in run_rows(TOYS, True, 0, Path({folder!r}), 2)}}))
"""
installed_defects: list[str] = []


@contextlib.contextmanager
def _detectable() -> Generator[None]:
    installed_defects.append("a defect")
    yield
    installed_defects.clear()


@contextlib.contextmanager
def _without_effect() -> Generator[None]:
    yield


def _passes(settings: Settings) -> Outcome:
    """Report a failure only while the defect `_detectable` is installed."""
    return Outcome(settings.count(1000), tuple(installed_defects))


def _dies(settings: Settings) -> Outcome:
    os._exit(9)


def _raises(settings: Settings) -> Outcome:
    raise ValueError("on purpose")


TOYS = [
    Row("good", "toys", "", _passes, {"detectable": _detectable}),
    Row("detects nothing", "toys", "", _passes, {"undetected": _without_effect}),
    Row("dies", "toys", "", _dies, {}),
    Row("raises", "toys", "", _raises, {}),
    Row("skipped", "toys", "", _passes, {}, unavailable=lambda: "no such disk"),
    Row("no trials", "toys", "", lambda settings: Outcome(0, ()), {}),
]


@pytest.mark.slow
def test_failures_of_the_checks_themselves_are_reported(tmp_path: Path) -> None:
    # A new interpreter, because a fork of this process would inherit its threads.
    script = RUN_TOYS.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    failures = json.loads(ran.stdout)
    assert failures["good"] == []
    assert failures["detects nothing"] == ["does not detect: undetected (0 of 20: )"]
    assert "exit status 9" in failures["dies"][0]
    assert failures["raises"] == ["the check raised ValueError: on purpose"]
    assert failures["skipped"] == ["skipped: no such disk"]
    assert failures["no trials"] == ["no trial was made"]


def test_a_check_that_hangs_is_killed_and_fails(tmp_path: Path) -> None:
    script = (
        "import json, time; from pathlib import Path; import reliability.running as running;"
        "from reliability.contract import *; running.SHORT_LIMIT_SECONDS = 0.3;"
        f"row = Row('hangs', '', '', lambda settings: time.sleep(60), {{}});"
        f"print(json.dumps([r['failures'] for r in running.run_rows([row], True, 0, Path({str(tmp_path)!r}), 1)]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, timeout=30)
    assert "hung: killed after 0 s" in json.loads(ran.stdout)[0][0], ran.stderr


@pytest.mark.slow
def test_short_run_passes(tmp_path: Path) -> None:
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
    summary, table = ((tmp_path / "docs" / name).read_text() for name in ("reliability.md", "reliability-table.md"))
    assert "classes of faults" in summary and len(summary) < 4000 and "](reliability-table.md#training)" in summary
    assert all(f"| `{row['name']}` |" in table for row in rows)
    if skipped:  # for the harness this is a failure; here the machine has no compiler or no mount namespaces
        pytest.skip("; ".join(skipped))


def test_the_catalog_is_complete_and_every_proof_exists() -> None:
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


def test_every_row_has_a_unique_name_and_defects_that_can_be_installed() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.defects and row.promise and row.section for row in ROWS)
    for row in ROWS:
        for install in row.defects.values():
            with install():  # raises if the function that it replaces was renamed
                pass


def test_every_phase_in_which_a_signal_is_sent_is_a_function() -> None:
    assert all(callable(resolve_name(f"sightline.{module}:{name}")) for module, name in PHASES.values())


def test_the_page_has_no_paths_of_this_machine() -> None:
    from reliability.page import anonymize_paths

    text = f"{HERE}/src/x.py, {sys.prefix}/lib, {sys.base_prefix}/lib, /dev/shm/reliability-ab_12xyz/run, /etc/x"
    assert anonymize_paths(text) == "./src/x.py, venv/lib, python/lib, trials/run, /etc/x"
