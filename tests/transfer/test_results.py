"""Choices by tuning, and the results of a transfer grid from arrays: intervals, sentences, Bonferroni's correction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from sightline.recipes.transfer import transfer_fast
from sightline.stats.groups import Groups
from sightline.transfer.grid import COMPARISONS
from sightline.transfer.outcomes import SettingResult
from sightline.transfer.plan import GridRun, runs_of, summary_of_runs
from sightline.transfer.results import RunResult, compare_settings, interval_notes, setting_result
from sightline.transfer.tuning import Choice, candidates, chosen_settings, name_of_try, read_choice
from transfer_toys import linear, tiny_grid


def test_every_setting_has_as_many_tries() -> None:
    grid = tiny_grid(tune="small", frozen=linear(tiny_grid()))
    assert {len(candidates(grid, setting)) for setting in "ABCDE"} == {6}
    assert candidates(grid, "A")[:2] == [
        {"optim.lr": 0.0015, "train.epochs": 2},
        {"optim.lr": 0.0015, "train.epochs": 5},
    ]
    assert [one["train.epochs"] for one in candidates(grid, "F", 31)] == [31] * 3
    assert not candidates(tiny_grid(), "A")


def test_the_best_try_is_chosen_and_ties_by_loss(tmp_path: Path) -> None:
    grid = tiny_grid(tune="small")
    tries = candidates(grid, "A")
    for index, settings in enumerate(tries):
        assert read_choice(tmp_path, grid, "A") is None and chosen_settings(tmp_path, grid, "A") is None
        run = tmp_path / "tune" / name_of_try("A", settings)
        run.mkdir(parents=True)
        record = {"event": "done", "accuracy": [0.2, 0.5, 0.5, 0.4, 0.1, 0.3][index], "loss": 2.0 - index}
        (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    choice = read_choice(tmp_path, grid, "A")
    assert choice is not None and choice.chosen == tries[2] and choice.tried[1][1] == 0.5
    assert chosen_settings(tmp_path, tiny_grid(), "A") == {}
    diverged = tmp_path / "tune" / name_of_try("A", tries[2])
    (diverged / "metrics.jsonl").unlink()
    assert read_choice(tmp_path, grid, "A") is None
    (diverged / "not-finite-batch.txt").write_text("a.png")
    choice = read_choice(tmp_path, grid, "A")
    assert choice is not None and choice.chosen == tries[1] and np.isnan(choice.tried[2][1]) and len(choice.tried) == 6


def test_the_number_of_runs_of_a_grid() -> None:
    grid = transfer_fast()
    tries = sum(len(candidates(grid, setting)) for setting in grid.settings)
    assert summary_of_runs(grid, tries, 2) == (
        "this grid: 4 pre-trainings, 33 runs to choose settings, 22 runs on the target data; 2 of them finished"
    )
    given = tiny_grid(settings=("A", "C"), unlabeled_weights="weights.pt", pretrain_seeds=(0, 1))
    assert summary_of_runs(given, 0, 0).endswith(
        "0 pre-trainings, 0 runs to choose settings, 4 runs on the target data"
    )


def test_values_at_the_edge_of_the_tries_are_named() -> None:
    tried = tuple(({"optim.lr": lr, "train.epochs": n}, 0.5) for lr in (0.1, 0.3, 1.0) for n in (4, 10))
    assert Choice({"optim.lr": 0.3, "train.epochs": 4}, tried).at_edge == []
    assert Choice({"optim.lr": 1.0, "train.epochs": 4}, tried).at_edge == ["optim.lr"]
    assert Choice({"optim.lr": 0.3, "train.epochs": 10}, tried).at_edge == ["train.epochs"], "more may be better"
    assert Choice({"train.epochs": 10}, (({"train.epochs": 10}, 0.5),)).at_edge == []


def test_each_pretraining_has_the_same_seeds(tmp_path: Path) -> None:
    grid = tiny_grid(seeds=(0, 1, 2), pretrain_seeds=(0, 1))
    result = RunResult(np.ones(12, bool), 1.0, 1e9, float("nan"))
    runs = [GridRun("C", 0, 0), GridRun("C", 0, 1), GridRun("C", 0, 2), GridRun("C", 1, 0), GridRun("C", 1, 2)]
    outcome, note = setting_result(tmp_path, grid, "C", dict.fromkeys(runs, result))
    assert outcome.values.shape == (2, 2, 12) and outcome.seeds == (0, 2) and note.startswith("1 run of C left out")
    outcome, note = setting_result(tmp_path, grid, "C", dict.fromkeys(runs[:4], result))
    assert outcome.values.shape == (1, 3, 12) and outcome.pretrainings == (0,)


def outcome_of(
    setting: str, accuracy: float, pretrainings: int = 1, seeds: int = 3, images: int = 400
) -> SettingResult:
    """A setting whose runs are right on random images, of which `accuracy` is the expected share."""
    rng = np.random.default_rng([ord(setting), seeds])
    correct = rng.random((pretrainings, seeds, images)) < accuracy
    pretrained, trained = tuple(range(pretrainings)), tuple(range(seeds))
    return SettingResult(setting, pretrained, trained, correct, accuracy, None, 1.0, 1e9, "")


def test_sentences_name_the_split_and_the_only_pretraining_or_run() -> None:
    (many,) = compare_settings([outcome_of("A", 0.4), outcome_of("C", 0.7, 4)], "test accuracy")
    assert many.sentence.startswith("C beats A by ") and "points of test accuracy [" in many.sentence
    assert many.sentence.endswith(f", p = {many.p:.2g}") and many.interval is not None and many.interval[0] > 0.1
    (one,) = compare_settings([outcome_of("A", 0.4), outcome_of("C", 0.7)], "validation accuracy")
    assert one.sentence.endswith(", for this one pre-training without labels") and one.p < 0.05
    (single,) = compare_settings([outcome_of("A", 0.4, seeds=1), outcome_of("C", 0.7, seeds=1)], "validation accuracy")
    assert single.sentence.endswith(", for this one run of A and this one run of C")
    (two,) = compare_settings([outcome_of("B", 0.4), outcome_of("C", 0.7)], "validation accuracy")
    assert two.sentence.endswith(", for this one pre-training of each kind")


def test_a_linear_evaluation_holds_for_its_pretraining_without_other_seeds() -> None:
    one = replace(outcome_of("E", 0.4, seeds=1), knn=np.array([[0.3]]))
    (found,) = compare_settings([outcome_of("A", 0.7), one], "validation accuracy")
    assert found.sentence.startswith("A beats E") and found.sentence.endswith("this one pre-training without labels")
    grid = tiny_grid(seeds=(4, 5), frozen=linear(tiny_grid()))
    assert [run.name for run in runs_of(grid, "E")] == ["E-p0-0"]
    outcome, note = setting_result(
        Path("nowhere"), grid, "E", {GridRun("E", 0, 0): RunResult(np.ones(12, bool), 1, 1, 0.3)}
    )
    assert outcome.seeds == (0,) and not note


def test_p_and_intervals_are_corrected_for_all_comparisons_of_the_page() -> None:
    """C beats A by so little that it is shown alone, but not among seven comparisons."""
    pair = [outcome_of("A", 0.50, seeds=4), outcome_of("C", 0.56, seeds=4)]
    (alone,) = compare_settings(pair, "validation accuracy")
    assert alone.p < 0.05 and "C beats A" in alone.sentence
    others = [outcome_of(letter, 0.52, seeds=5) for letter in "BDEF"]
    among = compare_settings([*pair, *others], "validation accuracy")
    assert len(among) == len(COMPARISONS) and among[0].p > 0.05 > alone.p
    assert "no difference in validation accuracy between A and C" in among[0].sentence
    for one in among:
        assert one.interval is not None and (one.p < 0.05) == (not one.interval[0] <= 0 <= one.interval[1])


def test_without_enough_images_no_interval_is_given_and_the_reason_is() -> None:
    outcomes = [outcome_of("A", 0.2, images=8), outcome_of("C", 0.8, images=8)]
    (found,) = compare_settings(outcomes, "validation accuracy")
    assert found.interval is None and "without an interval" in found.sentence and "beats" not in found.sentence
    assert interval_notes(outcomes, None) == ["8 images: no interval can be given, which needs 10"]


def test_intervals_are_over_groups_of_images() -> None:
    """If the images of a film have the same answers, the number of films counts."""
    pair = [outcome_of("A", 0.4), outcome_of("C", 0.6)]
    ids = np.repeat(np.arange(20), 20)
    for outcome in pair:
        outcome.values[:] = outcome.values[:1, :1, :20].repeat(20, axis=2)
    (alone,) = compare_settings(pair, "validation accuracy")
    (grouped,) = compare_settings(pair, "validation accuracy", Groups(ids, "frames of one film"))
    assert alone.interval is not None and grouped.interval is not None
    assert np.diff(grouped.interval) > 3 * np.diff(alone.interval) and grouped.p > 100 * alone.p
    (note,) = interval_notes(pair, Groups(ids, "frames of one film"))
    assert note.startswith("400 images in 20 groups (frames of one film), as precise as ")
    (few,) = interval_notes(pair, Groups(ids // 4, "data.group"))
    assert few.endswith("5 groups (data.group): fewer than 10, so no interval can be given")


def test_intervals_stay_within_possible_accuracies() -> None:
    """A t interval over two runs that differ is wider than all accuracies."""
    pair = [outcome_of("A", 0.4, seeds=2), outcome_of("C", 0.5, seeds=2)]
    pair[0].values[0, 0] = False
    (found,) = compare_settings(pair, "validation accuracy")
    assert found.interval == (-1, 1)
