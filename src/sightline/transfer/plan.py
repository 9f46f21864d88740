"""The runs of a transfer grid: their names, their folders, and how many there are."""

from pathlib import Path
from typing import Any, NamedTuple

from ..errors import counted
from ..runs.atomic import read_json_lines
from ..runs.run_folder import final_record
from .grid import PRETRAININGS, SETTINGS, Grid


class GridRun(NamedTuple):
    """A run on the target data. pretraining: the seed of its pre-training, None for a setting without pre-training."""

    setting: str
    pretraining: int | None
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's folder, such as A-0 (seed 0) or C-p1-0 (seed 0, after the pre-training with seed 1)."""
        return f"{self.setting}-{'' if self.pretraining is None else f'p{self.pretraining}-'}{self.seed}"


def runs_of(grid: Grid, setting: str) -> list[GridRun]:
    """The runs of a setting on the target data: each seed after each pre-training. A linear evaluation does not depend
    on the seed, and has only seed 0."""
    pretrainings = grid.pretrainings(SETTINGS[setting].pretraining)
    seeds = (0,) if grid.trained(setting).optim.name == "lbfgs" else grid.seeds
    return [GridRun(setting, pretraining, seed) for pretraining in pretrainings for seed in seeds]


def needed_pretrainings(grid: Grid) -> list[str]:
    """The pre-training stages that the grid's settings need, in the order of PRETRAININGS."""
    return [stage for stage in PRETRAININGS if any(SETTINGS[s].needs == stage for s in grid.settings)]


def pretraining_folder(folder: Path, grid: Grid, stage: str, seed: int) -> Path:
    """The path of a pre-training: the weights that were given, or else a run in the grid's folder."""
    given = getattr(grid, f"{stage}_weights")
    return Path(given) if given else folder / f"pretrain-{stage}-{seed}"


def own_pretrainings(grid: Grid) -> list[tuple[str, int]]:
    """(stage, seed) of each pre-training that the grid trains itself."""
    stages = [stage for stage in needed_pretrainings(grid) if not getattr(grid, f"{stage}_weights")]
    return [(stage, seed) for stage in stages for seed in grid.pretrain_seeds]


def log_of(run: Path) -> list[dict[str, Any]]:
    """The records in the metrics.jsonl of a run; none for a file of weights."""
    return read_json_lines(run / "metrics.jsonl") if run.is_dir() else []


def longer_epochs(folder: Path, grid: Grid) -> int | None:
    """The number of epochs of setting F: those of A, and those of the same cost in FLOPs as the pre-training without
    labels. None if no run of A, or the first pre-training, is finished."""
    stage = SETTINGS["F"].compute_of
    seed = grid.pretrainings(stage)[0]
    pretraining = final_record(pretraining_folder(folder, grid, stage, seed or 0))
    records = (final_record(folder / run.name) for run in runs_of(grid, "A"))
    short = next((record for record in records if record), None)
    if pretraining is None or short is None:
        return None
    return round(short["epoch"] + pretraining["train_flops"] * short["epoch"] / short["train_flops"])


def summary_of_runs(grid: Grid, tries: int, finished: int) -> str:
    """A line with the number of runs that a grid needs. tries: runs for tuning. finished: runs that are finished."""
    final = sum(len(runs_of(grid, setting)) for setting in grid.settings)
    parts = [
        counted(len(own_pretrainings(grid)), "pre-training"),
        f"{counted(tries, 'run')} to choose settings",
        f"{counted(final, 'run')} on the target data",
    ]
    return f"this grid: {', '.join(parts)}{f'; {finished} of them finished' if finished else ''}"
