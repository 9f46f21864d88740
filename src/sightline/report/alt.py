"""What each figure shows, for people who do not see it."""

from collections.abc import Sequence

import numpy as np

from ..insight.curves import History
from ..insight.projection import EpochMap
from .findings import Verdict
from .words import in_words, percent


def count_of(epochs: float) -> str:
    """`1 epoch`, `2.5 epochs`."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def loss(past: History) -> str:
    """The two curves of the loss."""
    curves = [course("training loss", past.train["loss"]), course("validation loss", past.evaluation["loss"])]
    return sentence(f"Loss over {count_of(past.last_epoch)}", curves) + marks(past)


def metric(past: History, field: str, title: str) -> str:
    """The curve of a validation metric, a share."""
    values = past.evaluation[field]
    curve = course(f"validation {title[0].lower()}{title[1:]}", 100 * values, "%", 1)
    best = f"best {percent(float(np.nanmax(values)))}%" if np.isfinite(values).any() else ""
    return sentence(f"{title} over {count_of(past.last_epoch)}", [curve, best]) + marks(past)


def watched(past: History, name: str, title: str) -> str:
    """One column of the evaluations."""
    return f"{sentence(f'{title} over {count_of(past.last_epoch)}', [course(title, past.evaluation[name])])}"


def quantity(past: History, name: str, title: str, factor: float) -> str:
    """One column of the training records, times `factor`."""
    values = factor * past.train[name][np.isfinite(past.train[name])]
    if not len(values):
        return f"{title} over the epochs"
    return f"{title} over the epochs: median {np.median(values):.3g}, largest {values.max():.3g}, last {values[-1]:.3g}"


def course(name: str, values: np.ndarray, unit: str = "", digits: int = 3) -> str:
    """Where a curve begins and ends; "" without values."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    first, last = (f"{value:.{digits}f}{unit}" for value in (values[0], values[-1]))
    return f"{name} from {first} to {last}" if len(values) > 1 else f"{name} {last}"


def sentence(title: str, parts: Sequence[str]) -> str:
    """A title with what there is to say of it."""
    return f"{title}: {', '.join(part for part in parts if part)}" if any(parts) else title


def marks(past: History) -> str:
    """What is marked in the curves."""
    found = [f"best epoch {past.best_epoch}"] if past.best_epoch else []
    found += [f"resumed at {in_words(past.resumes)}"] if past.resumes else []
    return f"; marked: {', '.join(found)}" if found else ""


def confusion(verdict: Verdict, classes: Sequence[str]) -> str:
    """The matrix, with its largest cell off the diagonal."""
    wrong = int((~verdict.correct).sum())
    text = f"Confusion matrix of {len(classes)} classes; {wrong} of {len(verdict.correct)} images lie off the diagonal"
    if not verdict.pairs:
        return text
    truth, predicted, often = verdict.pairs[0]
    return f"{text}, in its largest cell {often}: {classes[truth]} taken for {classes[predicted]}"


def calibration(verdict: Verdict) -> str:
    """Accuracy against confidence."""
    sure, right = float(verdict.confidence.mean()), verdict.accuracy
    side = "less" if sure < right else "more"
    return (
        f"Accuracy against confidence in 15 bins; calibration error {100 * verdict.calibration:.1f} points, on the "
        f"whole the model is {side} sure ({percent(sure)}%) than right ({percent(right)}%)"
    )


def maps(kind: str, found: Sequence[EpochMap], labels: np.ndarray, images: str = "validation") -> str:
    """The maps of the epochs, and how well the classes stand apart on them."""
    epochs, count = in_words([one.epoch for one in found]), np.unique(labels).size
    apart = ", ".join(f"{percent(one.knn)}% after epoch {one.epoch}" for one in found if one.knn is not None)
    what = f"{kind} maps of {len(labels)} {images} images"
    if not apart:
        return f"{what} after {epochs}, one dot an image, in the color of the one of {count} groups that it is in"
    return (
        f"{what} of {count} classes after {epochs}, one dot an image, in the color of its true class; in feature space "
        f"the nearest neighbors tell the class of {apart}"
    )
