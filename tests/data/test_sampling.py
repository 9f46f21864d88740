"""`data.sampler`: draws by class, exact and reproducible."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sightline
from config_toys import configured
from sightline.data.augment.batch import uniform
from sightline.data.label_arrays import strata
from sightline.data.loader import Sampling, epoch_order, resident, sampling_of, training_batches
from sightline.data.parallel import Share
from sightline.data.types import Decoded
from sightline.engine.memory import split
from sightline.errors import SightlineError

LABELS = np.repeat(np.arange(3), (16, 9, 1))
CPU = torch.device("cpu")


def weights(run: sightline.Run) -> bytes:
    return (run.path / "checkpoints" / "last" / "model.safetensors").read_bytes()


def decoded(labels: np.ndarray | None, stream: object = None) -> Decoded:
    """A split whose images are filled with their own index."""
    count = 26 if labels is None else len(labels)
    images = np.zeros((count, 3, 2, 2), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Decoded(images, labels, tuple(map(str, range(count))), ("a", "b", "c"), "", 1, stream=stream)


def counts(power: float, epoch: int = 0) -> tuple[list[int], np.ndarray]:
    """(draws of each class, draws of each image) in an epoch of LABELS."""
    draws = epoch_order(0, epoch, 26, Sampling(LABELS, power)).numpy()
    assert len(draws) == 26 == len(set(draws.tolist()))
    return np.bincount(LABELS[draws % 26], minlength=3).tolist(), np.bincount(draws % 26, minlength=26)


def test_the_draws_of_each_class_are_exact() -> None:
    assert counts(0.5)[0] == [13, 10, 3]  # 26 * (4, 3, 1) / 8 = 13, 9.75, 3.25
    assert counts(1.0)[0] == [16, 9, 1]
    drawn = np.array([counts(0, epoch)[0] for epoch in range(300)])
    assert {tuple(sorted(row)) for row in drawn.tolist()} == {(8, 9, 9)}
    assert (abs((drawn == 8).mean(0) - 1 / 3) < 0.09).all()  # every class is equally often the one with 8


def test_images_of_a_class_are_drawn_equally_often() -> None:
    images = np.stack([counts(0, epoch)[1] for epoch in range(400)])
    assert images[:, :16].max() == 1 and (images[:, 25] >= 8).all() and images[:, 16:25].max() == 1
    assert abs(images[:, :16].mean(0) - 26 / 3 / 16).max() < 0.09


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.sampled_from([0.0, 0.5]), st.integers(0, 9))
def test_every_epoch_has_as_many_draws_as_images_and_within_one_of_the_share(
    labels: list[int], power: float, epoch: int
) -> None:
    sampling, count = Sampling(np.array(labels), power), len(labels)
    draws = epoch_order(3, epoch, count, sampling).numpy()
    assert torch.equal(torch.from_numpy(draws), epoch_order(3, epoch, count, sampling)) and len(draws) == count
    kinds, sizes = np.unique(labels, return_counts=True)
    found = np.array([(np.array(labels)[draws % count] == kind).sum() for kind in kinds])
    assert (abs(found - count * sizes**power / (sizes**power).sum()) < 1).all()
    for kind in kinds:
        times = np.bincount(draws % count, minlength=count)[np.array(labels) == kind]
        assert times.max() - times.min() <= 1


def test_a_repeated_draw_is_augmented_differently_and_its_image_is_the_same() -> None:
    sampling = sampling_of(decoded(LABELS), "balanced")
    (batch,) = training_batches(decoded(LABELS), 26, 0, 0, sampling=sampling)
    assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.samples) and batch.labels is not None
    repeated = batch.keys[batch.samples == 25]
    assert repeated.tolist() != [25] * len(repeated) and sorted(repeated % 26) == [25] * len(repeated)
    assert len(set(uniform(0, 0, repeated, 1)[:, 0].tolist())) == len(repeated) >= 8
    (plain,) = training_batches(decoded(LABELS), 26, 0, 0)
    assert plain.draws is None and plain.keys is plain.samples
    (on_device,) = training_batches(resident(decoded(LABELS), "always", CPU), 26, 0, 0, sampling=sampling)  # ty: ignore
    assert torch.equal(on_device.images, batch.images) and torch.equal(on_device.keys, batch.keys)
    assert torch.equal(torch.cat([part.keys for part in split(batch, 7)]), batch.keys)


@pytest.mark.parametrize("world", [2, 3])
def test_the_parts_of_the_processes_are_the_batch(world: int) -> None:
    sampling = sampling_of(decoded(LABELS), "sqrt")
    whole = list(training_batches(decoded(LABELS), 9, 0, 4, sampling=sampling))
    parts = [
        list(training_batches(decoded(LABELS), 9, 0, 4, share=Share(rank, world), overlap=True, sampling=sampling))
        for rank in range(world)
    ]
    for number, batch in enumerate(whole):
        keys = torch.cat([part[number].keys[part[number].overlap :] for part in parts])
        assert torch.equal(keys, batch.keys)
        assert all(torch.equal(part[number].all_samples, batch.samples) for part in parts)
    (last,) = training_batches(decoded(LABELS), 9, 0, 4, first_batch=2, sampling=sampling)
    assert torch.equal(last.keys, whole[2].keys)


def test_a_label_set_counts_for_its_rarest_class() -> None:
    sets = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], bool)
    sampling = sampling_of(decoded(sets), "balanced")
    assert sampling is not None and sampling.strata.tolist() == strata(sets).tolist() == [0, 1, 0, 2]


def test_data_without_classes_and_shards_are_refused() -> None:
    assert sampling_of(decoded(None), "shuffle") is None
    for labels in (None, np.zeros(26, np.float32)):
        with pytest.raises(SightlineError, match=r"--data.sampler sqrt needs images with classes"):
            sampling_of(decoded(labels), "sqrt")
    with pytest.raises(
        SightlineError, match="images in shards are read in the order in which they are stored"
    ) as caught:
        sampling_of(decoded(LABELS, stream=object()), "balanced")
    assert "--loss.class_weights balanced" in caught.value.cure


@pytest.mark.usefixtures("no_reports")
def test_a_resumed_run_equals_an_uninterrupted_run(
    make_photos: Callable[..., Path], tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", train=9, val=3)
    for path in sorted((photos / "train" / "class_0").iterdir())[2:]:
        path.unlink()
    settings = tiny | {"data.sampler": "balanced", "augment.horizontal_flip": 0.5, "schedule.name": "constant"}
    settings |= {"train.device": "cpu"}  # on others, sums have no fixed order
    whole = sightline.train(configured(settings | {"train.epochs": 4}), photos, out=tmp_path / "whole")
    assert (
        "data.sampler balanced: the classes have 2 to 9 images, and 7 to 8 draws in an epoch" in capsys.readouterr().out
    )
    half = sightline.train(configured(settings | {"train.epochs": 2}), photos, out=tmp_path / "half", quiet=True)
    assert weights(whole) == weights(sightline.resume(half.path, quiet=True, **{"train.epochs": 4}))
    plain = configured(settings | {"train.epochs": 4, "data.sampler": "shuffle"})
    assert weights(whole) != weights(sightline.train(plain, photos, out=tmp_path / "plain", quiet=True))
