"""Run every row of the harness; write reliability.json and docs/reliability.md. Exit status 1 if a row failed."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from reliability import syscall_faults

HERE = Path(__file__).resolve().parent.parent


def _arguments(tokens: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a fiftieth of the trials, as in `make test-all`")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run these rows only, and write no files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for reliability.json and docs/reliability.md")
    parser.add_argument("--jobs", type=int, default=2, help="number of checks run in parallel, each in its own process")
    return parser.parse_args(tokens)


def main(tokens: list[str] | None = None) -> int:
    """Run the command; returns 1 if a row failed, was skipped, or did not detect a defect, and 2 for an unknown row."""
    arguments = _arguments(tokens)
    if tokens is None:
        syscall_faults.restart_with_shim()
    import torch

    torch.set_num_threads(1)  # before any operation: forking is safe from one thread only
    from reliability.page import facts_of_run, write_results
    from reliability.rows import ROWS
    from reliability.running import run_rows

    unknown = sorted(set(arguments.only) - {row.name for row in ROWS})
    if unknown:
        print(
            f"unknown rows: {', '.join(unknown)}; the rows are: {', '.join(row.name for row in ROWS)}", file=sys.stderr
        )
        return 2
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    started = time.monotonic()
    results = []
    folder = Path(tempfile.mkdtemp(prefix="reliability-"))
    for result in run_rows(rows, arguments.short, arguments.seed, folder, arguments.jobs):
        results.append(result)
        _print_result(result)
    order = {row.name: index for index, row in enumerate(ROWS)}
    results.sort(key=lambda result: order[str(result["name"])])
    seconds = time.monotonic() - started
    facts = facts_of_run(arguments.short, arguments.seed, seconds, arguments.jobs)
    if not arguments.only:
        write_results(arguments.out, facts, results)
    failed = [result for result in results if result["failures"]]
    print(f"{len(results)} rows, {len(failed)} failed, {seconds:.0f} s")
    if failed:
        print(f"output of the checks: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _print_result(result: dict[str, object]) -> None:
    """Print one line for a row, and its failures below."""
    defects = result["defects"]
    failures = result["failures"]
    assert isinstance(defects, dict) and isinstance(failures, list)
    caught = f"{sum(defects.values())} of {len(defects)} defects detected"
    mark = "FAIL" if failures else "ok"
    print(f"{mark:4} {result['name']}: {result['trials']} trials, {caught}, {result['seconds']} s", flush=True)
    for line in failures[:10]:
        print(f"       {ascii(line)[1:-1][:400]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
