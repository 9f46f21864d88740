"""Files that training writes: the state for resumption, weights, and snapshots of features and masks."""

import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..config.schema import Config
from ..data.label_arrays import are_numbers
from ..data.types import Batch, Decoded
from ..errors import ENVIRONMENT, SightlineError, listing
from ..runs import checkpoint, run_folder
from ..runs.atomic import atomic_write
from ..runs.deferred_writes import MAX_FAILED_SAVES
from ..runs.log import RunLog
from . import distributed
from .evaluate import evaluate
from .parts import Arrays, FeatureSample, Parts
from .state import Training

THUMBNAIL = 64  # longest side in pixels; saved in the run so that the report does not need the data
MASK_SIDE = 512  # the same for segmentation, where masks need more detail
LOWEST_RATE = 1e-6  # a lower learning rate is not proposed after a loss that is not finite


def save_state(training: Training) -> None:
    """Save everything that a bit-identical resumption needs to checkpoints/last. Before that, retry the writes of
    weights and snapshots that failed earlier."""
    progress = training.progress
    progress.seconds = training.log.seconds()
    optimizer, optimizer_values = checkpoint.flatten_optimizer(training.optimizer.state_dict())
    optimizer = {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}
    tensors = distributed.full_on_rank0(state_tensors(training) | optimizer)
    if not training.world.is_rank0:
        return
    settings = training.config.model_dump(mode="json")
    values: dict[str, Any] = {"progress": asdict(progress), "optimizer": optimizer_values, "config": settings}
    if training.scaler.is_enabled():
        values["loss_scale"] = training.scaler.state_dict()
    if training.average:
        values["average_updates"] = training.average.updates
    training.deferred.flush()
    checkpoint.save_state(training.folder / "checkpoints" / "last", tensors, values)


def save_or_defer(training: Training, last: bool) -> None:
    """Call `save_state`. After a disk error, warn and let training continue; the next save retries.

    last: this is the last save of the run. Raises SightlineError (status ENVIRONMENT) after MAX_FAILED_SAVES failures
    in a row, and for any failure of the last save. With several processes only rank 0 writes, and its error ends all
    processes.
    """
    deferred, step, pending = training.deferred, training.progress.step, bool(training.deferred.writes)
    try:
        save_state(training)
    except SightlineError as error:
        if error.status != ENVIRONMENT:
            raise
        deferred.failures += 1
        if last or deferred.failures >= MAX_FAILED_SAVES:
            raise save_failed_error(training, error, last) from error
        training.log.warn(
            f"{error.what}: {error.why}. Step {step:,} is not saved; training continues, and the next save retries "
            f"(failure {deferred.failures}; the run ends after {MAX_FAILED_SAVES} failures in a row)"
        )
        return
    if deferred.failures or pending:
        log = training.log.say if deferred.failures else training.log.warn  # warn if there was no warning before
        log(f"files that could not be written before, and the state of step {step:,}, are saved now")
    deferred.failures = 0


def save_failed_error(training: Training, error: SightlineError, last: bool) -> SightlineError:
    """The error that ends a run whose state cannot be saved. error: that of the last attempt."""
    what = error.what if last else f"{error.what}, {MAX_FAILED_SAVES} times in a row"
    why = f"{error.why}; this was the last save of the run, which cannot be retried later" if last else error.why
    cure = f"free some space or repair the disk, then resume: sightline resume {shlex.quote(str(training.folder))}"
    return SightlineError(what, where=error.where, why=why, cure=cure, status=error.status)


def state_tensors(training: Training) -> dict[str, torch.Tensor]:
    """The weights and their moving average, if any, by name in the state: `model.NAME` and `average.NAME`."""
    tensors = {f"model.{name}": tensor for name, tensor in training.parts.model.state_dict().items()}
    if training.average:
        tensors |= {f"average.{name}": tensor for name, tensor in training.average.tensors().items()}
    return tensors


def checkpoint_bytes(config: Config, model: nn.Module) -> int:
    """Maximum disk space in bytes of all checkpoints of the run."""
    moments = {"sgd": 1 if config.optim.momentum else 0}.get(config.optim.name, 2)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    weights = checkpoint.total_bytes(model.state_dict())
    state = weights * (2 if config.optim.ema else 1) + moments * trained
    return checkpoint.required_bytes(weights, state, 2 + config.train.ensemble)


def load_state(folder: Path, log: RunLog) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load (tensors, values) of the newest undamaged state for resumption in a run folder. A warning is logged if a
    newer state is damaged. Raises SightlineError if there is no state."""
    last = folder / "checkpoints" / "last"
    if not any((last / name).exists() for name in checkpoint.SLOTS):
        name = shlex.quote(str(folder))
        cure = f"start the run again: sightline train {name}/recipe.yaml --out {name} --overwrite"
        why = "the run ended before it saved its first checkpoint"
        raise SightlineError("there is no state to resume from", where=str(last), why=why, cure=cure)
    tensors, values, note = checkpoint.load_state(last)
    if note:
        log.warn(note)
    return tensors, values


def restore(training: Training, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """Load a state, as from `load_state`, into the model, the optimizer and the weight average."""

    def with_prefix(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    current = training.parts.model.state_dict()
    training.parts.model.load_state_dict(
        {name: distributed.shard_like(t, current[name]) for name, t in with_prefix("model.").items()}
    )
    state = checkpoint.unflatten_optimizer(with_prefix("optimizer."), values["optimizer"])
    shard_moments(training.optimizer, state["state"])
    training.optimizer.load_state_dict(state)
    if training.scaler.is_enabled():
        training.scaler.load_state_dict(values["loss_scale"])
    if training.average:
        training.average.restore(with_prefix("average."), values["average_updates"])


def shard_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Any]]) -> None:
    """Shard saved moments, by index of their parameter, like the parameters, in place. `load_state_dict` would first
    copy all of them in full to every GPU."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    for index, parameter in enumerate(parameters):
        own = moments.get(index, {})
        for name, value in own.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                own[name] = distributed.shard_like(value, parameter)


def save_weights(training: Training, name: str, numbers: dict[str, float]) -> None:
    """Save the current weights of the model, with a config.json that describes them, to checkpoints/NAME. numbers:
    validation metrics, which are stored with the weights."""
    weights = distributed.full_on_rank0(training.parts.model.state_dict())
    if not training.world.is_rank0:
        return
    description = training.parts.description | {
        "epoch": training.epoch,
        "step": training.progress.step,
        "metrics": numbers,
    }
    folder = training.folder / "checkpoints" / name
    training.deferred.write(folder, lambda tensors: checkpoint.save_model(folder, tensors, description), weights)


def keep_for_ensemble(training: Training, numbers: dict[str, float]) -> None:
    """Save the weights in checkpoints/epoch-NNNNN if this epoch is among the `train.ensemble` best so far. Weights
    of epochs that are no longer among the best are removed."""
    size, key = training.config.train.ensemble, training.config.train.ensemble_by
    if not size:
        return
    sign = 1 if key == "loss" else -1
    entry = [sign * numbers[key], training.epoch]
    others = [pair for pair in training.progress.ensemble if pair[1] != training.epoch]
    ranked = sorted([*others, entry])
    if entry in ranked[:size]:
        save_weights(training, epoch_name(training.epoch), numbers)
    for _, epoch in ranked[size:] if training.world.is_rank0 else ():
        training.deferred.remove(training.folder / "checkpoints" / epoch_name(int(epoch)))
    training.progress.ensemble = ranked[:size]


def epoch_name(epoch: int) -> str:
    """The name of the folder of an epoch, such as `epoch-00012`, zero-padded for sorting."""
    return f"epoch-{epoch:05d}"


def save_snapshot(training: Training, arrays: Arrays) -> None:
    """Save features or masks of the sampled validation images at this epoch. Snapshots of earlier epochs are removed
    so that at most `report.snapshots` remain."""
    folder = training.folder / "snapshots"
    target = folder / epoch_name(training.epoch)
    if training.parts.feature_sample is not None and len(training.parts.rows):
        save_training_features(training, training.parts.feature_sample, target)
    if not training.world.is_rank0:
        return
    if "masks" in arrays:
        save_or_defer_arrays(training, target / "masks.npz", {"masks": subsampled(arrays["masks"])})
    elif "features" in arrays:
        values, rows = {"features": arrays["features"]}, training.parts.rows
        if "probabilities" in arrays:  # of one label per image
            probabilities = arrays["probabilities"][rows]
            values |= {"predictions": probabilities.argmax(1), "confidence": probabilities.max(1).astype(np.float16)}
        elif "predictions" in arrays:
            values["predictions"] = arrays["predictions"][rows]
        save_or_defer_arrays(training, target / "features.npz", values)
    else:
        return
    saved = sorted(int(path.name.removeprefix("epoch-")) for path in folder.glob("epoch-*"))
    for epoch in set(saved) - set(epochs_to_keep(saved, training.config.report.snapshots)):
        shutil.rmtree(folder / epoch_name(epoch), ignore_errors=True)


def save_training_features(training: Training, sample: FeatureSample, folder: Path) -> None:
    """Compute the features of the sampled training images, and save them in the folder of this epoch's snapshot."""
    parts, size = training.parts, training.config.train.eval_batch_size
    with distributed.unsharded_for(training.forward):
        arrays = evaluate(parts.learner, sample.images, size, parts.device, parts.dtype, sample.features)[1]
    if training.world.is_rank0:
        save_or_defer_arrays(training, folder / "train-features.npz", arrays)


def epochs_to_keep(epochs: list[int], limit: int) -> list[int]:
    """Choose the epochs whose snapshots are kept: the first, the last, and the multiples of a power of two.

    It is the smallest power of two for which at most `limit` epochs (at least 2) remain. The final number of epochs is
    unknown during training. As the power only grows, no chosen epoch was removed before.
    """
    stride = 1
    while True:
        kept = [epoch for epoch in epochs if epoch in (epochs[0], epochs[-1]) or epoch % stride == 0]
        if len(kept) <= max(limit, 2):
            return kept
        stride *= 2


def save_samples(folder: Path, parts: Parts) -> None:
    """Write snapshots/samples.npz: thumbnails, names and labels (if any) of the sampled validation images.

    For image-mask pairs it has images and true masks, scaled down to at most MASK_SIDE pixels. If training images are
    sampled too, train-samples.npz has the same for them.
    """
    rows, val = parts.rows, parts.val
    sample = sample_arrays(val, rows)
    if val.masks is not None:
        sample |= {
            "images": subsampled(val.channels.composite(val.images[rows])),
            "labels": subsampled(val.masks[rows]),
        }
    if len(rows):
        save_arrays(folder / "snapshots" / "samples.npz", sample)
    if parts.feature_sample is not None:
        all_rows = np.arange(len(parts.feature_sample.images.names))
        save_arrays(folder / "snapshots" / "train-samples.npz", sample_arrays(parts.feature_sample.images, all_rows))


def sample_arrays(decoded: Decoded, rows: np.ndarray) -> Arrays:
    """Thumbnails, names, indices and class labels (if any) of the images at `rows` of a split, as arrays by name."""
    names = np.array([decoded.names[row] for row in rows], dtype=str)
    classes = decoded.labels is not None and not are_numbers(decoded.labels)
    labels = {"labels": decoded.labels[rows]} if classes else {}
    return {"images": thumbnails(decoded, rows), "names": names, "index": rows} | labels


def subsampled(images: np.ndarray, side: int = MASK_SIDE) -> np.ndarray:
    """Scale images or masks [N, ..., H, W] down by nearest neighbor, to a longest side of at most `side` pixels."""
    height, width = images.shape[-2:]
    step = max(1.0, max(height, width) / side)
    rows, columns = (((np.arange(round(n / step)) + 0.5) * step).astype(np.int64) for n in (height, width))
    return np.ascontiguousarray(images[..., rows[:, None].clip(max=height - 1), columns.clip(max=width - 1)])


def thumbnails(decoded: Decoded, rows: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """The images with the indices `rows`, in colors and scaled down: uint8 [len(rows), 3, h, w]. The longest side is at
    most `side` pixels."""
    chosen = torch.from_numpy(np.ascontiguousarray(decoded.channels.composite(decoded.images[rows])))
    height, width = chosen.shape[2:]
    scale = side / max(height, width)
    if scale >= 1 or not len(rows):
        return chosen.numpy()
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = functional.interpolate(chosen.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to a compressed .npz file, atomically."""
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))  # ty: ignore[invalid-argument-type]


def save_or_defer_arrays(training: Training, path: Path, arrays: Arrays) -> None:
    """Write arrays to a compressed .npz file; after a disk error, retry at the next save of the state."""
    training.deferred.write(path, lambda content: save_arrays(path, content), arrays)


def update_weights(training: Training, group: list[Batch], loss: float, norm: float, rate: float) -> None:
    """Take the optimizer's step; arguments as of `not_finite_error`, which is raised if a number is not finite. In
    float16 a gradient that is not finite has a loss that was scaled too much: the step is left out, and the scale
    reduced.

    `GradScaler.step` is not used, because torch's fused SGD has uninitialized moments after a first step that is left
    out (torch 2.15).
    """
    finite = np.isfinite(norm)
    if not np.isfinite(loss) or not (finite or training.scaler.get_scale() > 1):
        raise not_finite_error(training, group, loss, norm, rate)
    if finite:
        training.optimizer.step()
    training.scaler.update()


def not_finite_error(training: Training, group: list[Batch], loss: float, norm: float, rate: float) -> SightlineError:
    """The error for a loss or gradient that is NaN or infinite. The file names of the batch are written to
    not-finite-batch.txt. loss, norm, rate: loss, gradient norm and learning rate of the step."""
    names = training.parts.train.names
    files = [names[sample] for batch in group for sample in batch.all_samples.tolist()]
    path = training.folder / run_folder.NOT_FINITE
    if training.world.is_rank0:
        atomic_write(path, "".join(f"{name}\n" for name in files).encode("utf-8", "surrogateescape"))
    name = shlex.quote(str(training.folder))
    best = (
        f"\n    to start from the best weights, add --model.weights {name}"
        if training.progress.best is not None
        else ""
    )
    what = "the loss" if not np.isfinite(loss) else "the gradient"
    lower, advice = training.config.optim.lr / 10, "start another run with a tenth of the learning rate"
    change = f"--optim.lr {lower:g}"
    if lower < LOWEST_RATE:
        advice, change = "look at the images of this batch; if they are right, use float32", "--train.precision fp32"
    return SightlineError(
        f"{what} is not finite at step {training.progress.step + 1:,}",
        where=f"{training.folder}; {path.name} lists the {len(files)} images of this batch; the first ones:\n"
        + listing(files, 5),
        why=f"loss {loss}, gradient norm {norm}, learning rate {rate:.3g}, {training.parts.dtype}",
        cure=f"{advice}:\n    sightline train {name}/recipe.yaml --out {name}-2 {change}"
        f"{best}\n    if that does not help, add --optim.clip_norm 1, --schedule.warmup_epochs 1 or "
        "--train.precision fp32",
    )
