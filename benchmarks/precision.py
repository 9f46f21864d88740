"""Compare the validation accuracy of runs in float32 and bfloat16, paired by seed.

    python benchmarks/precision.py --data objects50/ --seeds 6 --json precision.json

Trains `objects_fast` with a narrow network for a few epochs, or another recipe. The two runs of a seed differ only in
`train.precision`. Prints the standard deviation over seeds and a 95 % interval (Student's t) of the mean difference.
Short runs cannot show differences of a few tenths of a percentage point at the end of a long run.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from scipy import stats

import sightline
from machine import machine_info, machine_line, write_results
from sightline.runs.atomic import read_json_lines

NARROW = '{"model.args": {"widths": [32, 64, 128]}}'


def accuracy(options: argparse.Namespace, precision: str, seed: int) -> tuple[float, float]:
    """Train one run; return its validation accuracy and its seconds."""
    settings: dict[str, Any] = {"train.precision": precision, "train.seed": seed, "train.epochs": options.epochs}
    settings |= {"report.samples": 0, "train.evaluate_every": 100} | json.loads(options.settings)
    with tempfile.TemporaryDirectory() as folder:
        sightline.train(options.recipe, options.data, out=Path(folder) / "run", quiet=True, **settings)
        records = read_json_lines(Path(folder) / "run" / "metrics.jsonl")
    return next(r["accuracy"] for r in reversed(records) if r["event"] == "eval"), records[-1]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of images in class folders")
    parser.add_argument("--recipe", default="objects_fast")
    parser.add_argument("--settings", default=NARROW, help="settings of the runs as JSON; default: a narrow network")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    info, runs = machine_info(), {"fp32": [], "bf16": []}
    print(machine_line(info))
    print("| seed | accuracy, fp32 | bf16 | seconds, fp32 | bf16 |\n|---|---|---|---|---|")
    for seed in range(options.seeds):
        for precision in sorted(runs, reverse=seed % 2 == 0):  # alternate, so that drift of the machine affects both
            runs[precision].append(accuracy(options, precision, seed))
        (fp32, fp32_seconds), (bf16, bf16_seconds) = runs["fp32"][-1], runs["bf16"][-1]
        print(f"| {seed} | {fp32:.4f} | {bf16:.4f} | {fp32_seconds:.0f} | {bf16_seconds:.0f} |", flush=True)
    scores = {name: [score for score, _ in pairs] for name, pairs in runs.items()}
    for name, values in scores.items():
        print(f"{name}: mean {statistics.mean(values):.4f}, ", end="")
        print(f"standard deviation over seeds {statistics.stdev(values):.4f}")
    differences = [bf16 - fp32 for fp32, bf16 in zip(scores["fp32"], scores["bf16"], strict=True)]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=mean, scale=error)
    print(f"bf16 - fp32: {100 * mean:+.2f} points [{100 * low:.2f}, {100 * high:.2f}]")
    write_results(options.json, info, runs)


if __name__ == "__main__":
    main()
