"""`python -m reliability`: runs every row, writes reliability.json and docs/reliability.md; status 1 if any failed."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from reliability import nth

HERE = Path(__file__).resolve().parent.parent


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few trials of each: what `make test` runs")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these rows; the page is not written then"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="where reliability.json and docs/reliability.md go")
    parser.add_argument("--jobs", type=int, default=2, help="checks at once, each in its own process")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """The command; gives the exit status: 1 if a row failed, was skipped, or did not see a broken implementation."""
    arguments = _arguments(words)
    if words is None:
        nth.start_with_shim()
    import torch

    torch.set_num_threads(1)  # before any operation: forks are safe only from one thread
    from reliability.page import facts_of_run, write_results
    from reliability.rows import ROWS
    from reliability.running import run_rows

    unknown = sorted(set(arguments.only) - {row.name for row in ROWS})
    if unknown:
        print(f"no such row: {', '.join(unknown)}; there are: {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    started = time.monotonic()
    results = []
    folder = Path(tempfile.mkdtemp(prefix="reliability-"))
    for result in run_rows(rows, arguments.short, arguments.seed, folder, arguments.jobs):
        results.append(result)
        _tell(result)
    order = {row.name: place for place, row in enumerate(ROWS)}
    results.sort(key=lambda result: order[str(result["name"])])
    seconds = time.monotonic() - started
    facts = facts_of_run(arguments.short, arguments.seed, seconds, arguments.jobs)
    if not arguments.only:
        write_results(arguments.out, facts, results)
    failed = [result for result in results if result["failures"]]
    print(f"{len(results)} rows, {len(failed)} failed, {seconds:.0f} s")
    if failed:
        print(f"what the checks printed: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _tell(result: dict[str, object]) -> None:
    """One line a row as it ends; the failures under it."""
    broken = result["broken"]
    failures = result["failures"]
    assert isinstance(broken, dict) and isinstance(failures, list)
    caught = f"{sum(broken.values())} of {len(broken)} broken ones seen"
    mark = "FAIL" if failures else "ok"
    print(f"{mark:4} {result['name']}: {result['trials']} trials, {caught}, {result['seconds']} s", flush=True)
    for line in failures[:10]:
        print(f"       {ascii(line)[1:-1][:400]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
