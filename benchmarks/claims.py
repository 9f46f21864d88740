"""The error rate of every sentence with a statistical or diagnostic claim, on data whose truth is known.

    python benchmarks/claims.py                    # all rows: benchmarks/claims.json and docs/claims.md
    python benchmarks/claims.py --only calibrat    # the claims whose area or sentence contains this text
    python benchmarks/claims.py --write            # docs/claims.md again, from claims.json

Two processes are used. Rows with photographs need the folder or the .zip of them: --objects objects50.zip --transfer
transfer.zip.
"""

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from claim_rows import CLAIMS
from claim_rows.photographs import OBJECTS, TRANSFER
from claim_rows.row import NO_INTERVAL, Claim, Result, Row, measured

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "claims.json", HERE.parent / "docs" / "claims.md"
HEAD = """# Claims and their error rates

Every sentence of a page or command that claims something about other data than those from which it was computed is
listed here with its error rate. The rates are measured on simulated data whose truth is known, with the functions
that make the claim. `python benchmarks/claims.py` measures them again and writes this page; a short version is one of
the tests.

How to read the tables: "100: 94.8 ± 0.7 %" means that the sets had 100 images, and that the rate is 94.8 % with a
Monte-Carlo standard error of 0.7 points. *Coverage* is the share of simulated sets whose interval contains the true
value. *False alarms* is the share of sets in which the sentence is said although it is not true. *Power* is the share
in which it is said where it is true. *n* is the number of simulated sets, or of labels or copies, of which a rate is
the mean. *Held* means that every rate is within two standard errors of the target.
"""
FOOT = """## Sentences without a rate

These describe the images, labels or records from which they were computed, and nothing else: the class with the lowest
recall, average precision or IoU; the most frequent confusion; "The validation loss ends 40% above its minimum, at epoch
5"; "The last epoch is the best"; the share of time spent waiting for data; the numbers of images of rare and missing
classes; unusual sizes and formats of images (thresholds in [doctor.md](doctor.md)); classes that always occur together;
k-NN accuracy and silhouette of maps; the k-NN accuracy from raw pixels beside that from the features of a pre-training.

Withdrawn, because no error rate could be held: "the model overfits", "try more epochs", "a recall of only", "check the
labels of these images", "calibration error 6.1 points: overconfident", "if a set has two labels, one is likely wrong".
"""


def key_of(claim: Claim, row: Row) -> str:
    """The key of a row in claims.json."""
    return f"{claim.area} | {claim.sentence} | {row.simulated} | {row.kind}"


def job(place: tuple[int, int, int]) -> tuple[str, dict[str, Any]]:
    """Measure one row for one size. place: indices of the claim, the row and the size."""
    claim = CLAIMS[place[0]]
    row = claim.rows[place[1]]
    return key_of(claim, row), asdict(measured(row, row.sizes[place[2]], row.sets, key_of(claim, row)))


def selected(text: str) -> list[tuple[int, int, int]]:
    """The places of all rows and sizes of the claims whose area or sentence contains `text`."""
    claims = [(i, one) for i, one in enumerate(CLAIMS) if text.lower() in f"{one.area} {one.sentence}".lower()]
    return [(i, j, k) for i, one in claims for j, row in enumerate(one.rows) for k in range(len(row.sizes))]


def rate_text(result: Result) -> str:
    """A rate with its error, such as "100: 94.8 ± 0.7 %"."""
    rate = result.why or f"{100 * result.rate:.1f} ± {100 * result.error:.1f} %"
    return rate if result.why not in ("", NO_INTERVAL) else f"{result.images:,}: {rate}"


def sets_text(results: list[Result]) -> str:
    """The number of simulated sets, or of single labels and copies, of which the rates are means."""
    counts = sorted({one.sets for one in results if one.why != NO_INTERVAL})
    return " to ".join(f"{count:,}" for count in dict.fromkeys((*counts[:1], *counts[-1:])))


def target_text(target: tuple[float, float] | None) -> str:
    """A target in words."""
    if target is None:
        return "reported"
    low, high = (f"{100 * edge:g}" for edge in target)
    return f"at most {high} %" if target[0] == 0 else f"at least {low} %" if target[1] == 1 else f"{low} to {high} %"


def held_text(row: Row, results: list[Result]) -> str:
    """Whether a row meets its target."""
    results = [one for one in results if one.why != NO_INTERVAL]
    if row.target is None or not results or any(one.why for one in results):
        return ""
    if all(one.meets(row.target) for one in results):
        return "held"
    wide = row.kind == "coverage" and all(one.meets((row.target[0], 1.0)) for one in results)
    return "**too wide**" if wide else "**not held**"


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    """The text of docs/claims.md from the content of claims.json."""
    parts, area = [HEAD], ""
    for claim in CLAIMS:
        if claim.area != area:
            area = claim.area
            parts.append(f"## {area}\n")
        parts.append(f"**{claim.sentence}**\n\nSaid by: {claim.said}.\n")
        parts.append("| simulated | n | measured | rates | target | |\n|---|---|---|---|---|---|")
        for row in claim.rows:
            found = [Result(**one) for one in results.get(key_of(claim, row), [])]
            rates = "; ".join(map(rate_text, found)) or "not measured yet"
            cells = [row.simulated, sets_text(found), row.kind, rates, target_text(row.target), held_text(row, found)]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append(f"\n{claim.note}\n" if claim.note else "")
    return "\n".join([*parts, FOOT])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--objects", default="")
    parser.add_argument("--transfer", default="")
    options = parser.parse_args()
    os.environ |= {name: path for name, path in ((OBJECTS, options.objects), (TRANSFER, options.transfer)) if path}
    results: dict[str, list[dict[str, Any]]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not options.write:
        started, fresh = time.perf_counter(), dict[str, list[dict[str, Any]]]()
        rows = {key_of(claim, row): row for claim in CLAIMS for row in claim.rows}
        results = {key: found for key, found in results.items() if key in rows}
        with multiprocessing.get_context("fork").Pool(2, torch.set_num_threads, (1,)) as pool:
            for key, found in pool.imap(job, selected(options.only)):
                fresh.setdefault(key, []).append(found)
                print(f"{key}: {rate_text(Result(**found))} ({found['seconds']:.0f} s)", flush=True)
                if len(fresh[key]) == len(rows[key].sizes):
                    results[key] = fresh[key]
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"measured in {(time.perf_counter() - started) / 60:.1f} minutes")
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
