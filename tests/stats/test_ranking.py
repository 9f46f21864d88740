"""The area under the ROC curve against scikit-learn and DeLong's variance, and its interval."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score, roc_curve

from sightline.stats.intervals import t_quantile
from sightline.stats.ranking import area_under_curve, roc_points


def drawn(count: int, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and whether each image is positive."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    return np.round(rng.normal(size=count) + positive, decimals), positive


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_area_and_points_are_those_of_scikit_learn(decimals: int) -> None:
    scores, positive = drawn(300, decimals=decimals)
    assert area_under_curve(scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores))
    alarms, hits, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert np.allclose(roc_points(scores, positive), [alarms, hits])


def test_the_interval_has_delongs_variance() -> None:
    scores, positive = drawn(400, decimals=6)
    lower = scores[positive][:, None] > scores[~positive][None]
    area, rows, columns = lower.mean(), lower.mean(1), lower.mean(0)
    error = np.sqrt(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns)) / (area * (1 - area))
    low, high = special.logit(area_under_curve(scores, positive)[1])
    assert (low + high) / 2 == pytest.approx(special.logit(area), abs=0.02)
    assert (high - low) / 2 == pytest.approx(t_quantile(np.inf) * error, rel=0.05)


def test_images_of_a_group_count_as_one() -> None:
    scores, positive = drawn(100, decimals=6)
    once = area_under_curve(scores, positive)
    copies = area_under_curve(*(np.repeat(part, 4) for part in (scores, positive)), np.repeat(np.arange(100), 4))
    assert copies[0] == pytest.approx(once[0]) and copies[1] == pytest.approx(once[1], abs=0.005)
    alone = area_under_curve(*(np.repeat(part, 4) for part in (scores, positive)))
    assert alone[1][1] - alone[1][0] < 0.6 * (once[1][1] - once[1][0])


def test_few_images_perfect_scores_and_one_class() -> None:
    positive = np.arange(40) >= 20
    area, (low, high) = area_under_curve(positive.astype(float), positive)
    assert area == 1 and 0.7 < low < 0.95 and high == 1
    assert np.isnan(area_under_curve(np.arange(29.0), np.arange(29) >= 20)[1]).all(), "nine positive images"
    assert np.isnan(area_under_curve(np.arange(5.0), np.ones(5, bool))[0])


def test_a_group_with_half_of_the_images_counts_as_one_of_few() -> None:
    """The intervals of 30 such groups covered the area in 81 % of simulated sets; with Kish's number in all."""
    rng, covered = np.random.default_rng(0), []
    groups = np.repeat(np.arange(30), [290, *[10] * 29])
    for _ in range(40):
        positive = (rng.permutation(30) < 15)[groups]
        scores = np.sqrt(0.5) * (rng.normal(size=30)[groups] + rng.normal(size=len(groups)))
        low, high = area_under_curve(scores + special.ndtri(0.85) * 2**0.5 * positive, positive, groups)[1]
        covered.append(low <= 0.85 <= high)
    assert np.mean(covered) >= 0.95
