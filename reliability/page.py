"""Write the results of the harness: reliability.json, a summary in docs/reliability.md, and its tables beside it."""

import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "pillow", "numpy", "safetensors", "pyyaml", "pydantic")

SCRATCH_FOLDER = re.compile(r"/(?:dev/shm|tmp)/reliability-[a-z0-9_]{8}")  # as named by tempfile
MAX_CELL = 420  # characters
SHORT_NOTE = (
    "**This is a short run**: the counts are a fiftieth of the full ones, and defects were tried for the quick checks "
    "only. `make reliability` makes a full run.",
    "",
)


def facts_of_run(short: bool, seed: int, seconds: float, jobs: int) -> dict[str, object]:
    """Commit, versions, machine, seed and duration of a run of the harness."""
    git = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "commit": git.stdout.strip(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "machine": f"{platform.system()} {platform.machine()}, {cores} cores",
        "short": short,
        "seed": seed,
        "jobs": jobs,
        "seconds": round(seconds, 1),
    }


def write_results(out: Path, facts: Mapping[str, object], results: Sequence[Mapping[str, object]]) -> None:
    """Write reliability.json, docs/reliability.md and docs/reliability-table.md below `out`."""
    (out / "docs").mkdir(parents=True, exist_ok=True)
    results = json.loads(anonymize_paths(json.dumps(list(results))))
    text = json.dumps({**facts, "rows": list(results)}, indent=1, ensure_ascii=True)
    (out / "reliability.json").write_text(text + "\n", encoding="utf-8")
    (out / "docs" / "reliability.md").write_text(page(facts, results), encoding="utf-8")
    (out / "docs" / "reliability-table.md").write_text(tables(results), encoding="utf-8")


def anonymize_paths(text: str) -> str:
    """Replace paths of this machine: the checkout, the Python installation, and scratch folders."""
    for path, replacement in ((sys.prefix, "venv"), (sys.base_prefix, "python"), (HERE, ".")):
        text = text.replace(str(path), replacement)
    return SCRATCH_FOLDER.sub("trials", text)


def _cell(text: object) -> str:
    """Escape text for a cell of a Markdown table, and shorten it to MAX_CELL characters."""
    plain = ascii(str(text))[1:-1].replace("\\'", "'").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
    return plain if len(plain) <= MAX_CELL else plain[: MAX_CELL - 3] + "..."


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headers)} |",
        f"|{'|'.join(' --- ' for _ in headers)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def page(facts: Mapping[str, object], results: Sequence[Mapping[str, object]]) -> str:
    """The text of docs/reliability.md: what was tested, and the counts of each section."""
    from reliability.catalog import CATALOG, STATUSES

    versions = facts["versions"]
    assert isinstance(versions, Mapping)
    trials = sum(int(str(result["trials"])) for result in results)
    failed = sum(bool(result["failures"]) for result in results)
    detected = [bool(seen) for result in results for seen in _mapping(result["defects"]).values()]
    command = "python -m reliability --short" if facts["short"] else "make reliability"
    lines = [
        "# Reliability: injected faults and their results",
        "",
        "<!-- Written by `make reliability`; do not edit. -->",
        "",
        f"{len(results)} classes of faults, **{trials:,} faults injected, {failed} of the classes failed**. "
        f"The checks themselves were tested on deliberately wrong code: **{sum(detected)} of {len(detected)} defects "
        "were detected**.",
        "",
        *(SHORT_NOTE if facts["short"] else ()),
        f"Run of commit `{facts['commit']}` with `{command}` ({facts['machine']}, "
        f"{facts['jobs']} checks in parallel, {float(str(facts['seconds'])) / 60:.1f} minutes, seed {facts['seed']}); "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        "Not tested: a real power loss (it is simulated), network file systems, Windows, macOS. "
        "[The threat model](threat-model.md) explains who is protected from what.",
        "",
    ]
    sections = dict.fromkeys(str(result["section"]) for result in results)
    rows = [_counts(name, [result for result in results if result["section"] == name]) for name in sections]
    lines += _table(("Part", "Classes of faults", "Faults", "Failed", "Defects of the code detected"), rows)
    statuses = Counter(fault.status for fault in CATALOG)
    lines += [
        "[The table of all faults](reliability-table.md) has each class with what is promised, the counts, and the "
        f"defects. It also has a catalog of {len(CATALOG)} faults, from hardware to users: "
        + ", ".join(f"{statuses[name]} {name} ({words})" for name, words in STATUSES.items() if statuses[name])
        + ".",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _counts(section: str, results: Sequence[Mapping[str, object]]) -> list[str]:
    """The row of a section in the summary."""
    trials = sum(int(str(result["trials"])) for result in results)
    failed = sum(bool(result["failures"]) for result in results)
    detected = [bool(seen) for result in results for seen in _mapping(result["defects"]).values()]
    anchor = re.sub(r"[^\w -]", "", section.lower()).strip().replace(" ", "-")
    title = f"[{section}](reliability-table.md#{anchor})"
    return [title, f"{len(results)}", f"{trials:,}", f"{failed}", f"{sum(detected)} of {len(detected)}"]


def tables(results: Sequence[Mapping[str, object]]) -> str:
    """The text of docs/reliability-table.md: every class of faults, and the catalog."""
    from reliability.catalog import CATALOG

    lines = ["# All injected faults", "", "<!-- Written by `make reliability`; do not edit. -->", ""]
    lines += ["The [summary](reliability.md) says how these were counted.", ""]
    for section in dict.fromkeys(str(result["section"]) for result in results):
        lines += [f"## {section}", ""]
        lines += _section([result for result in results if result["section"] == section])
    lines += ["## The catalog", "", *_catalog(CATALOG)]
    return "\n".join(lines).rstrip() + "\n"


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _section(results: Sequence[Mapping[str, object]]) -> list[str]:
    rows = []
    for result in results:
        failures = result["failures"]
        assert isinstance(failures, list)
        outcome = f"**{result['failed']} failed**: {_cell(failures[0])}" if failures else "none failed"
        notes = "; ".join(f"{name}: {value}" for name, value in dict(_mapping(result["notes"])).items())
        rows.append(
            [f"`{result['name']}`", _cell(result["promise"]), f"{int(str(result['trials'])):,}", outcome, _cell(notes)]
        )
    lines = _table(("Check", "Promise", "Faults", "Result", "Counts"), rows)
    defects = [
        [
            f"`{result['name']}`",
            _cell(name),
            "yes" if seen else "**no**",
            _cell(_mapping(result["defect_messages"])[name]),
        ]
        for result in results
        for name, seen in _mapping(result["defects"]).items()
    ]
    return (
        lines + _table(("Check", "Defect", "Detected", "Failure that the check reported"), defects)
        if defects
        else lines
    )


def _catalog(catalog: Sequence[object]) -> list[str]:
    """The table of each section of the catalog: faults, behavior, status and proofs."""
    from reliability.catalog import STATUSES, Fault

    faults = [fault for fault in catalog if isinstance(fault, Fault)]
    counts = Counter(fault.status for fault in faults)
    lines = [
        ", ".join(f"{counts[name]} {name} ({words})" for name, words in STATUSES.items() if counts[name]) + ".",
        "",
    ]
    for section in dict.fromkeys(fault.section for fault in faults):
        rows = [
            [
                fault.id,
                _cell(fault.fault),
                _cell(fault.behavior),
                fault.status,
                "<br>".join(f"`{proof}`" for proof in fault.proofs),
            ]
            for fault in faults
            if fault.section == section
        ]
        lines += [f"### {section}", "", *_table(("ID", "Fault", "Behavior of Sightline", "Status", "Proof"), rows)]
    return lines
