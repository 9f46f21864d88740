"""The sentences, the step that is used, and the commands after a start."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from compare_toys import classifier
from sightline import SightlineError
from sightline.config.resolve import to_yaml
from sightline.config.schema import Model
from sightline.report.compare.numbers import compare
from sightline.runs.atomic import write_json
from sightline.start.outcomes import Outcome, more_time, read_outcomes, write_outcomes
from sightline.start.results import climb, corrected, highest, left_out, next_commands, sentences
from sightline.tasks.classify.config import ClassifyConfig

TWO = {"a": [0, 1, 1, 1], "b": [0, 1, 0, 1]}
"""The predictions of two runs."""
STEPS = [Outcome(name, name, True, 1.0) for name in ("constant", "frozen", "finetune")]


def comparison(best: int, differences: dict[str, float]) -> Any:
    """A comparison of the best step with others, whose differences have no intervals."""
    nan = float("nan")
    pairs = [
        SimpleNamespace(first=STEPS[best].name, second=name, difference=value, interval=(nan, nan), p=nan)
        for name, value in differences.items()
    ]
    kind = SimpleNamespace(name="mean IoU", unit="%", percent=True)
    entries = [SimpleNamespace(name=one.name, quality=0.5, interval=None, so_far=False) for one in STEPS]
    return SimpleNamespace(pairs=pairs, kind=kind, entries=entries)


@pytest.mark.parametrize(
    ("best", "differences", "used"),
    [
        (0, {"frozen": 0.4, "finetune": 0.3}, 1),  # too few images to show that a step is better than the trivial one
        (0, {"frozen": -0.1, "finetune": 0.0}, 0),
        (1, {"finetune": 0.02}, 2),
    ],
)
def test_the_step_with_the_highest_value_is_used(best: int, differences: dict[str, float], used: int) -> None:
    assert highest(comparison(best, differences), STEPS[best], STEPS) is STEPS[used]


def test_a_difference_without_an_interval_has_no_corrected_p(tmp_path: Path) -> None:
    """`sightline report` says the same."""
    runs = [classifier(tmp_path / name, right, [0, 1, 0, 1]) for name, right in TWO.items()]
    found = corrected(compare(runs))
    assert math.isnan(found.pairs[0].p) and math.isnan(found.pairs[0].corrected)


def test_without_intervals_the_highest_value_comes_first_and_what_is_missing() -> None:
    found = comparison(0, {"frozen": 0.4, "finetune": 0.3})
    first, *others = sentences(found, STEPS[0], STEPS, found.pairs)
    assert first.startswith("Frozen has the highest value: mean IoU 50.00%.") and "at least 10 validation" in first
    assert "No step is shown" not in first and len(others) == 2


def test_the_highest_value_and_steps_that_vary_have_a_caveat() -> None:
    found = comparison(0, {"frozen": 0.4, "finetune": 0.3})
    for pair in found.pairs:
        pair.interval, pair.p = (-0.1, 0.9), 0.5
    first, *others = sentences(found, STEPS[0], STEPS, found.pairs)
    assert "As the highest of 3 on these images it is optimistic" in first
    assert others[-1].startswith("Each step was run once")
    fixed = [Outcome(name, name, True, 1.0) for name in ("constant", "knn")]
    found.pairs[:] = [found.pairs[0].__class__(**(vars(found.pairs[0]) | {"second": "knn"}))]
    found.entries[1].name = "knn"
    assert "run once" not in " ".join(sentences(found, fixed[0], fixed, found.pairs)), "k-NN has no seed"


def test_a_reason_is_said_once() -> None:
    same = [Outcome(name, name, False, 0.0, "no weights", "set --weights") for name in ("k-NN", "fine-tuning")]
    assert left_out([STEPS[0], *same]) == ["k-NN, fine-tuning were left out: no weights; set --weights."]


def test_commands_name_the_folder_unless_it_is_the_usual_one(tmp_path: Path) -> None:
    more = [Outcome("scratch", "scratch", False, 0.0, "too long", "give more time: --minutes 9")]
    wanted = "sightline start photos --minutes 9"
    assert next_commands(Path("runs/start"), {"data.path": "photos"}, STEPS[1], more)[-1] == wanted
    other = next_commands(tmp_path, {"data.path": "photos"}, STEPS[1], more)[-1]
    assert other == f"sightline start photos --out {tmp_path} --minutes 9"


def test_the_command_for_more_time_repeats_all_settings(tmp_path: Path) -> None:
    late = Outcome("finetune", "fine-tuning", False, 0.0, "too long", "give more time: --minutes 9")
    settings = {"data.path": "photos", "data.val_fraction": 0.2, "data.size": 32}
    command = next_commands(tmp_path, settings, STEPS[1], [STEPS[0], late])[-1]
    assert command == f"sightline start photos --data.val_fraction 0.2 --data.size 32 --out {tmp_path} --minutes 9"


def test_the_advice_has_the_minutes_of_all_steps_but_the_last() -> None:
    def late(name: str, minutes: int) -> Outcome:
        return Outcome(name, name, False, 0.0, "too long", f"give more time: --minutes {minutes}")

    done = Outcome("knn", "k-NN", True, 1.0)
    assert more_time([done, late("probe", 4), late("finetune", 11), late("scratch", 30)]) == late("", 11).cure
    assert more_time([done, late("scratch", 30)]) == late("", 30).cure and more_time([done]) == ""


def test_folds_are_suggested_where_few_images_were_held_out_and_no_weights_have_seen_them(tmp_path: Path) -> None:
    def commands() -> str:
        return " ".join(next_commands(tmp_path, {"data.path": "p", "data.val_fraction": 0.3}, STEPS[1], []))

    recipe = tmp_path / STEPS[1].name / "recipe.yaml"
    assert f"sightline repeat {recipe} --folds 5" in commands()
    assert "repeat" not in " ".join(next_commands(tmp_path, {"data.path": "p"}, STEPS[1], []))
    recipe.parent.mkdir()
    recipe.write_text(to_yaml(ClassifyConfig(model=Model(weights=str(tmp_path)))))
    assert "repeat" not in commands()


def test_weights_may_be_given_later_until_a_step_has_used_some(tmp_path: Path) -> None:
    left = [Outcome("frozen", "frozen", False, 0.0, "no weights").__dict__]
    write_json(tmp_path / "start.json", {"settings": {"data.path": "photos"}, "steps": [STEPS[0].__dict__, *left]})
    now = {"data.path": "photos", "weights": "a.safetensors"}
    assert list(read_outcomes(tmp_path, now, False, ["frozen"])) == ["constant"]
    with pytest.raises(SightlineError, match="other settings") as caught:
        read_outcomes(tmp_path, now, False, ["constant"])
    assert caught.value.why == "weights was not set, is a.safetensors now"
    state = tmp_path / "frozen" / "checkpoints" / "last" / "state-0.safetensors"  # of a run that was interrupted
    state.parent.mkdir(parents=True)
    for path in (state, tmp_path / "frozen" / "recipe.yaml"):
        path.touch()
    with pytest.raises(SightlineError, match="other settings"):
        read_outcomes(tmp_path, now, False, ["frozen"])
    assert read_outcomes(tmp_path, now, True, ["frozen"]) == {} and not (tmp_path / "frozen").exists()


def test_a_start_with_other_data_is_an_error(tmp_path: Path) -> None:
    settings = {"data.path": "photos"}
    write_outcomes(tmp_path, settings, {"constant": STEPS[0]}, {"data": "a digest"})
    assert list(read_outcomes(tmp_path, settings, False, digests={"data": "a digest"})) == ["constant"]
    with pytest.raises(SightlineError, match="other data") as caught:
        read_outcomes(tmp_path, settings, False, digests={"data": "another digest"})
    assert caught.value.why == "images were added, removed or changed, or have other labels"
    assert read_outcomes(tmp_path, settings, True, digests={"data": "another digest"}) == {}


def test_a_weight_file_with_other_content_is_an_error_once_a_step_has_used_it(tmp_path: Path) -> None:
    settings = {"data.path": "photos", "weights": "a.safetensors"}
    before, now = ({"data": "d", "weights": digest} for digest in ("one", "two"))
    write_outcomes(tmp_path, settings, {"constant": STEPS[0]}, before)
    assert read_outcomes(tmp_path, settings, False, ["frozen"], now)
    with pytest.raises(SightlineError, match="a start with other weights") as caught:
        read_outcomes(tmp_path, settings, False, ["constant"], now)
    assert caught.value.why == "the file of the weights has other content"
    assert read_outcomes(tmp_path, settings, False, ["constant"], before)


def test_the_printed_command_goes_on_with_the_start(tmp_path: Path) -> None:
    """The settings of a command line are text, those that were found in the data are not."""
    write_outcomes(tmp_path, {"data.path": "photos", "data.val_fraction": 0.3}, {"constant": STEPS[0]}, {})
    assert read_outcomes(tmp_path, {"data.path": "photos", "data.val_fraction": "0.3"}, False)


def test_the_advice_counts_steps_that_were_trained_later(tmp_path: Path) -> None:
    """They are done when the command is repeated, and their seconds count before the step that was left out."""
    late = Outcome("frozen", "frozen", False, 0.0, "too long", "give more time: --minutes 3")
    after = Outcome("finetune", "finetune", True, 85.0)
    command = next_commands(tmp_path, {"data.path": "photos"}, after, [STEPS[0], late, after])[-1]
    assert command.endswith("--minutes 5")


class Pair(NamedTuple):
    difference: float
    p: float


def test_a_step_is_replaced_only_by_one_that_is_shown_to_be_better() -> None:
    table = {(0, 1): Pair(0.2, 1e-6), (1, 2): Pair(0.1, 0.02), (1, 3): Pair(-0.2, 1e-6), (1, 4): Pair(0.1, 0.01)}
    best, pairs = climb(5, lambda first, second: table[first, second])  # ty: ignore
    assert best == 4 and len(pairs) == 4, "0.02 x 4 comparisons is above 0.05, 0.01 x 4 is not"


def test_steps_that_are_equal_are_rarely_called_better() -> None:
    """The rate of false statements that docs/claims.md gives, with fewer trials."""
    from sightline.stats.nested import paired_difference

    rng, wrong, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        easy = rng.random(300) < 0.4  # images on which all steps agree
        right = np.where(easy, True, rng.random((6, 300)) < 0.5)
        pairs = {}

        def pair_of(first: int, second: int, right: np.ndarray = right, pairs: dict = pairs) -> Any:
            found = paired_difference(right[first], right[second], None)
            return Pair(found.value, found.p)

        wrong += climb(6, pair_of)[0] != 0
    assert wrong / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5
