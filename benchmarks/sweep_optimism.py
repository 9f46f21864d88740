"""Simulate sweeps: how optimistic is the value of the best trial on the images that selected it, and on others?

    python -m benchmarks.sweep_optimism

A trial with ability a classifies an image correctly with probability Phi(a). Half of the variance of its errors is the
difficulty of the image, which all trials share, a quarter is its own, and a quarter changes with every epoch. The best
epoch of each trial and then the best trial are selected by the accuracy on N images; the result is compared with the
true accuracy Phi(a) of the selected trial. The reporting images are as many as the selection images.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from sightline.stats.intervals import mean_interval


class Optimism(NamedTuple):
    """Means over the simulated sweeps: error in points, and coverage of the 95 % interval as a share.

    Each on the images that selected the trial, and on others.
    """

    selected_error: float
    selected_coverage: float
    reported_error: float
    reported_coverage: float


def optimism(
    images: int, trials: int = 20, epochs: int = 10, accuracy: float = 0.8, spread: float = 0.01, sweeps: int = 1000
) -> Optimism:
    """Simulate sweeps. images: number of selection images, and of reporting images. accuracy, spread: mean and standard
    deviation of the true accuracies of the trials."""
    rows = np.array([one_sweep(images, trials, epochs, accuracy, spread, seed) for seed in range(sweeps)])
    return Optimism(*rows.mean(0).tolist())


def one_sweep(
    images: int, trials: int, epochs: int, accuracy: float, spread: float, seed: int
) -> tuple[float, bool, float, bool]:
    """(error in points, whether the interval covers the truth) on the selection images, and the same on the others."""
    random = np.random.default_rng(seed)
    truth = np.clip(random.normal(accuracy, spread, trials), 0.01, 0.99)
    difficulty = np.sqrt(0.5) * random.standard_normal(2 * images, np.float32)
    own = np.sqrt(0.25) * random.standard_normal((trials, 1, 2 * images), np.float32)
    noise = np.sqrt(0.25) * random.standard_normal((trials, epochs, 2 * images), np.float32)
    correct = ndtri(truth)[:, None, None] + difficulty + own + noise > 0
    trial, epoch = divmod(int(correct[..., :images].mean(-1).argmax()), epochs)
    found = []
    for part in (correct[trial, epoch, :images], correct[trial, epoch, images:]):
        low, high = mean_interval(part)
        found += [100 * (part.mean() - truth[trial]), low <= truth[trial] <= high]
    return found[0], found[1], found[2], found[3]


def main() -> None:
    """Print a table."""
    print("1,000 sweeps of 20 trials: images; error and coverage on the images that selected the trial, on others")
    for images in (100, 300, 1000):
        one = optimism(images)
        print(f"{images:6}  {one[0]:+.2f} points, {one[1]:.1%}   {one[2]:+.2f} points, {one[3]:.1%}")


if __name__ == "__main__":
    main()
