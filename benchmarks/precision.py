"""Does bfloat16 cost accuracy? The same runs in float32 and bfloat16, by seeds, and how far seeds lie apart.

    python benchmarks/precision.py --data objects50/ --seeds 6 --json precision.json

`objects_fast`, narrow and short, so that many seeds fit; the two of a seed differ in `train.precision` alone. The
interval of the mean difference is Student's, over seeds. A short run shows a loss of accuracy as a long one does, but
nothing of the runs' last tenths of a point.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from scipy import stats

import sightline
from machine import facts, headline, keep
from sightline.runs.atomic import read_json_lines

SETTINGS = {"model.args": {"widths": [32, 64, 128]}, "report.samples": 0, "train.evaluate_every": 100}


def accuracy(data: str, precision: str, seed: int, epochs: int) -> tuple[float, float]:
    """Validation accuracy and seconds of one run."""
    more: dict[str, Any] = SETTINGS | {"train.precision": precision, "train.seed": seed, "train.epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        sightline.train("objects_fast", data, out=Path(folder) / "run", quiet=True, **more)
        records = read_json_lines(Path(folder) / "run" / "metrics.jsonl")
    return next(r["accuracy"] for r in reversed(records) if r["event"] == "eval"), records[-1]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="pictures in class folders")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known, found = facts(), {"fp32": [], "bf16": []}
    print(headline(known))
    print("| seed | fp32 | bf16 | seconds, fp32 | bf16 |\n|---|---|---|---|---|")
    for seed in range(options.seeds):
        for precision in sorted(found, reverse=seed % 2 == 0):  # what drifts hits both
            found[precision].append(accuracy(options.data, precision, seed, options.epochs))
        (whole, slow), (half, quick) = found["fp32"][-1], found["bf16"][-1]
        print(f"| {seed} | {whole:.4f} | {half:.4f} | {slow:.0f} | {quick:.0f} |", flush=True)
    scores = {name: [score for score, _ in runs] for name, runs in found.items()}
    for name, values in scores.items():
        print(f"{name}: {statistics.mean(values):.4f}, spread of the seeds (standard deviation) ", end="")
        print(f"{statistics.stdev(values):.4f}")
    apart = [half - whole for whole, half in zip(scores["fp32"], scores["bf16"], strict=True)]
    low, high = stats.t.interval(
        0.95, len(apart) - 1, loc=statistics.mean(apart), scale=statistics.stdev(apart) / len(apart) ** 0.5
    )
    print(f"bf16 - fp32: {100 * statistics.mean(apart):+.2f} points [{100 * low:.2f}, {100 * high:.2f}]")
    keep(options.json, known, found)


if __name__ == "__main__":
    main()
