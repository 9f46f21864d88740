import numpy as np
import pytest

from sightline.insight.curves import MetricCurve, draw_loss, draw_metric, epoch_means, history
from sightline.insight.style import VIOLET, png

ACCURACY = MetricCurve("accuracy", "Accuracy", second=("accuracy_top5", "top 5"))
RATE = MetricCurve("lr", "Learning rate", percent=False, small=True, records="train")


def train(step: int, loss: float) -> dict:
    return {"event": "train", "step": step, "epoch": step / 10, "seconds": float(step), "loss": loss, "lr": 0.1}


def evaluation(step: int, accuracy: float, best: bool) -> dict:
    return {"event": "eval", "step": step, "epoch": step // 10, "seconds": float(step), "split": "val", "loss": 1.0,
            "accuracy": accuracy, "best": best}  # fmt: skip


RESUMED = [
    {"event": "start", "step": 0, "epoch": 0, "seconds": 0.0},
    train(5, 3.0),
    train(10, 2.0),
    evaluation(10, 0.5, True),
    train(13, 9.0),
    train(15, 9.0),
    {"event": "resume", "step": 10, "epoch": 1, "seconds": 10.0},
    train(12, 1.8),
    train(15, 1.5),
    train(20, 1.0),
    evaluation(20, 0.7, True),
    {"event": "stop", "step": 20, "epoch": 2, "seconds": 20.0, "reason": "2 minutes are over"},
]


def test_sessions_of_a_resumed_run_are_one_curve():
    past = history(RESUMED)
    assert past.train["step"].tolist() == [5, 10, 12, 15, 20]
    assert past.train["loss"].tolist() == [3.0, 2.0, 1.8, 1.5, 1.0]
    assert past.evaluation["accuracy"].tolist() == [0.5, 0.7]
    assert past.resumes == (1.0,) and past.best_epoch == 2 and past.seconds == 20
    assert past.stop == "2 minutes are over" and not past.finished and past.last_epoch == 2


def test_without_a_resume_record_the_last_record_of_a_step_counts():
    past = history([train(5, 3.0), train(10, 2.0), train(5, 2.5), train(10, 1.5)])
    assert past.train["step"].tolist() == [5, 10] and past.train["loss"].tolist() == [2.5, 1.5]


def test_a_resumed_run_is_not_finished():
    done = {"event": "done", "step": 20, "best_epoch": 1}
    past = history([*RESUMED, done, {"event": "resume", "step": 20, "epoch": 2}])
    assert not past.finished and past.stop == "" and past.best_epoch == 2
    assert history([*RESUMED, done]).best_epoch == 1
    assert history([*RESUMED, done | {"ensemble": [1, 2]}]).ensemble == (1, 2)


def test_the_epochs_of_an_ensemble_may_be_checkpoint_names():
    done = {"event": "done", "step": 20, "best_epoch": 1, "ensemble": ["epoch-00002", "epoch-00011"]}
    assert history([*RESUMED, done]).ensemble == (2, 11)


@pytest.mark.parametrize("invalid", [None, "x", [], {}, float("nan"), -1, True])
@pytest.mark.parametrize("key", ["step", "epoch", "best", "best_epoch", "ensemble", "split", "seconds"])
def test_invalid_values_raise_no_error(key, invalid):
    done = {"event": "done", "step": 20, "best_epoch": 1}
    past = history([record | {key: invalid} for record in [*RESUMED, done]])
    assert past.last_epoch == past.last_epoch and isinstance(past.best_epoch, int)


def test_resumes_are_drawn_above_the_grid_and_are_in_the_legend():
    for figure in (draw_loss(history(RESUMED)), draw_metric(history(RESUMED), RATE)):
        (axes,) = figure.axes
        (line,) = (line for line in axes.lines if list(line.get_xdata()) == [1.0, 1.0])
        grid = 0.5  # matplotlib's, with axes.axisbelow
        assert grid < line.get_zorder() < 2 and line.get_alpha() is None and line.get_color() == VIOLET
    assert "resumed" in draw_loss(history(RESUMED)).axes[0].get_legend_handles_labels()[1]


def test_the_y_axis_includes_the_highest_value():
    (axes,) = draw_loss(history([train(1, 2.30), train(2, 2.35)])).axes
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 2.4


def test_all_curves_have_the_same_x_axis():
    past = history(RESUMED)
    assert draw_loss(past).axes[0].get_xlim() == draw_metric(past, ACCURACY).axes[0].get_xlim()


def test_other_splits_and_invalid_values_are_ignored():
    past = history([evaluation(10, 0.5, True) | {"split": "test"}, train(5, float("nan")), train(6, 1) | {"lr": None}])
    assert len(past.evaluation["accuracy"]) == 0 and past.best_epoch == 0
    assert np.isnan(past.train["loss"][0]) and np.isnan(past.train["lr"][1])
    assert history([]).last_epoch == 0


def test_epoch_means_omit_nan():
    epochs, values = epoch_means(np.array([0.5, 1.0, 1.5, 2.0]), np.array([1.0, 3.0, np.nan, 5.0]))
    assert epochs.tolist() == [0.75, 2.0] and values.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("records", [RESUMED, [evaluation(10, 0.5, True)], [train(i, 1.0) for i in range(300)]])
def test_curves_are_drawn_at_any_stage_of_a_run(records):
    past = history(records)
    assert png(draw_loss(past)).startswith(b"\x89PNG")
    assert len(draw_metric(past, ACCURACY).axes) == len(draw_metric(past, RATE).axes) == 1


def test_the_best_epoch_and_an_early_stop_are_marked():
    labels = [text.get_text() for text in draw_loss(history(RESUMED)).axes[0].texts]
    assert labels == ["best: epoch 2", "stopped early"]
    complete = [*RESUMED[:-1], RESUMED[-1] | {"reason": "all epochs done"}]
    assert [text.get_text() for text in draw_loss(history(complete)).axes[0].texts] == ["best: epoch 2"]


def test_numeric_fields_are_columns_and_missing_values_are_nan():
    past = history([evaluation(10, 0.5, True) | {"f1_macro": 0.25, "note": "x"}, evaluation(20, 0.7, False)])
    assert past.evaluation["f1_macro"][0] == 0.25 and np.isnan(past.evaluation["f1_macro"][1])
    assert np.isnan(past.evaluation["never_measured"]).tolist() == [True, True]
    assert "note" not in past.evaluation and "best" not in past.evaluation


def test_a_metric_of_any_name_has_a_curve_and_a_second_line():
    past = history([evaluation(s, 0.5, True) | {"accuracy_top5": top} for s, top in ((10, 0.8), (20, 0.9))])
    lines = draw_metric(past, ACCURACY).axes[0].get_legend_handles_labels()[1]
    assert lines == ["validation, top 5", "validation"]
    rank = MetricCurve("effective_rank", "Rank", percent=False, small=True)
    assert (rank.name, rank.heading, ACCURACY.heading) == ("effective-rank", "Rank", "Accuracy, %")
    assert not rank.drawn_for(past) and ACCURACY.drawn_for(past)
