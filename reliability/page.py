"""What a run of the harness leaves: reliability.json, and docs/reliability.md made from it and from the catalog."""

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


TRIALS = re.compile(r"/(?:dev/shm|tmp)/reliability-[a-z0-9_]{8}")  # as tempfile calls them
LONGEST = 420  # letters of a cell
SHORT_NOTE = (
    "**This is the short run**: counts are a fiftieth of the full ones, and code broken on purpose is tried for the "
    "quick checks alone. `make reliability` writes the page anew with all.",
    "",
)


def facts_of_run(short: bool, seed: int, seconds: float, jobs: int) -> dict[str, object]:
    """What the numbers depend on: the commit, the versions, the machine, the seed."""
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
    """Writes both files under `out`."""
    (out / "docs").mkdir(parents=True, exist_ok=True)
    results = json.loads(without_places(json.dumps(list(results))))
    text = json.dumps({**facts, "rows": list(results)}, indent=1, ensure_ascii=True)
    (out / "reliability.json").write_text(text + "\n", encoding="utf-8")
    (out / "docs" / "reliability.md").write_text(page(facts, results), encoding="utf-8")


def without_places(text: str) -> str:
    """The text with what lies where on this machine left out: this checkout, Python, and folders of trials."""
    for place, told in ((sys.prefix, "venv"), (sys.base_prefix, "python"), (HERE, ".")):
        text = text.replace(str(place), told)
    return TRIALS.sub("trials", text)


def _cell(text: object) -> str:
    """Text for a cell of a Markdown table: no bar, no line break, no markup, never more than a glance."""
    plain = ascii(str(text))[1:-1].replace("\\'", "'").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'|'.join(' --- ' for _ in heads)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def page(facts: Mapping[str, object], results: Sequence[Mapping[str, object]]) -> str:
    """docs/reliability.md."""
    from reliability.catalog import CATALOG

    versions = facts["versions"]
    assert isinstance(versions, Mapping)
    trials = sum(int(str(result["trials"])) for result in results)
    failed = sum(bool(result["failures"]) for result in results)
    broken = [seen for result in results for seen in _mapping(result["broken"]).values()]
    command = "python -m reliability --short" if facts["short"] else "make reliability"
    lines = [
        "# Reliability: what was broken on purpose, and what came of it",
        "",
        "<!-- Written by `make reliability`; do not edit. -->",
        "",
        f"{len(results)} classes of fault, **{trials:,} faults put in, {failed} classes failed**. "
        f"Checks were themselves tried on code broken on purpose: **{sum(broken)} of {len(broken)} were seen**.",
        "",
        *(SHORT_NOTE if facts["short"] else ()),
        f"Run of commit `{facts['commit']}` with `{command}` ({facts['machine']}, "
        f"{facts['jobs']} checks at once, {float(str(facts['seconds'])) / 60:.1f} minutes, seed {facts['seed']}); "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        "What this page does not show: no power was really cut, no network file system, no Windows, no macOS. "
        "What is promised to whom stands in [the threat model](threat-model.md).",
        "",
    ]
    for section in dict.fromkeys(str(result["section"]) for result in results):
        lines += [f"## {section}", ""]
        lines += _section([result for result in results if result["section"] == section])
    lines += ["## The catalog", "", *_catalog(CATALOG)]
    return "\n".join(lines).rstrip() + "\n"


def _mapping(value: object) -> dict[str, bool]:
    assert isinstance(value, dict)
    return value


def _section(results: Sequence[Mapping[str, object]]) -> list[str]:
    rows = []
    for result in results:
        failures = result["failures"]
        assert isinstance(failures, list)
        gave = f"**{result['failed']} failed**: {_cell(failures[0])}" if failures else "none failed"
        notes = "; ".join(f"{name}: {value}" for name, value in dict(_mapping(result["notes"])).items())
        rows.append(
            [f"`{result['name']}`", _cell(result["promise"]), f"{int(str(result['trials'])):,}", gave, _cell(notes)]
        )
    lines = _table(("Check", "Promise", "Tried", "Gave", "Further"), rows)
    broken = [
        [f"`{result['name']}`", _cell(name), "seen" if seen else "**not seen**", _cell(_gave(result).get(name, ""))]
        for result in results
        for name, seen in _mapping(result["broken"]).items()
    ]
    return lines + _table(("Check", "Broken on purpose", "", "What the check said"), broken) if broken else lines


def _gave(result: Mapping[str, object]) -> Mapping[str, object]:
    gave = result["broken_gave"]
    assert isinstance(gave, Mapping)
    return gave


def _catalog(catalog: Sequence[object]) -> list[str]:
    """The 142 faults, each with what is promised and where that is proved."""
    from reliability.catalog import STANDS, Fault

    faults = [fault for fault in catalog if isinstance(fault, Fault)]
    counts = Counter(fault.stands for fault in faults)
    lines = [", ".join(f"{counts[name]} {name} ({words})" for name, words in STANDS.items() if counts[name]) + ".", ""]
    for section in dict.fromkeys(fault.section for fault in faults):
        rows = [
            [
                fault.id,
                _cell(fault.fault),
                _cell(fault.gives),
                fault.stands,
                "<br>".join(f"`{proof}`" for proof in fault.proofs),
            ]
            for fault in faults
            if fault.section == section
        ]
        lines += [f"### {section}", "", *_table(("", "Fault", "What Sightline gives", "", "Proof"), rows)]
    return lines
