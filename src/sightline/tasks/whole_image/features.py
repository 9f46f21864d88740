"""Features of images by a backbone, each computed once and stored in the cache folder."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config.schema import Config
from ...data.cache import FEATURES, cache_root, key_of
from ...data.image_cache import DIGEST_BYTES
from ...data.loader import evaluation_batch_size, gather
from ...data.types import Decoded
from ...engine.device import autocast, precision_name
from ...errors import SightlineError
from ...models import Classifier
from ...models.formats import tensors_digest
from ...runs.code_file import loaded_code
from ...runs.tensor_file import read_tensors, write_tensors
from ..contract import Say

PROGRESS_SECONDS = 10.0
BLOCK = 4096
"""Largest number of images in a file of features. An interrupted computation goes on after the last file."""


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes features of images without augmentation, or reads them from the cache folder.

    The folder has the features of each image by a hash of its pixels. So they are used again if the images are split
    differently, if labels change, and for the images of a data set to which others were added.

    transform: evaluation images [N, C, H, W] -> inputs of the model. preprocessing: JSON values of everything that the
    transform depends on.
    """

    config: Config
    model: Classifier
    transform: Callable[[Tensor], Tensor]
    preprocessing: list[Any]
    device: torch.device
    say: Say

    def stored(self, decoded: Decoded) -> Tensor | None:
        """The features of all images of a split if the cache folder has them, float32 [N, D] on the CPU, else None.
        Nothing is computed or written."""
        digests = pixel_digests(decoded)
        for dtype in (torch.float32, torch.bfloat16):
            known = stored_features(self.folder(decoded, dtype))
            if all(digest in known for digest in digests):
                return torch.stack([known[digest] for digest in digests])
        return None

    @torch.no_grad()
    def features(self, decoded: Decoded, split: str, dtype: torch.dtype) -> Tensor:
        """The features of all images of a split, float32 [N, D], on the device. dtype: of the forward pass."""
        training, start = self.model.training, time.monotonic()
        self.model.eval()
        folder = self.folder(decoded, dtype)
        digests = pixel_digests(decoded)
        known = stored_features(folder)
        missing = [row for row, digest in enumerate(digests) if digest not in known]
        title, said = f"features of {len(digests):,} {split} images", start
        if len(missing) > BLOCK:
            self.say(f"{title}: {len(missing):,} to compute")

        def tell(done: int) -> None:
            nonlocal said
            if time.monotonic() - said > PROGRESS_SECONDS and done < len(missing):
                said = time.monotonic()
                self.say(f"{title}: {done:,} of {len(missing):,} computed")

        for begin in range(0, len(missing), BLOCK):
            rows = missing[begin : begin + BLOCK]
            computed = self.compute(decoded, torch.tensor(rows), dtype, lambda done, before=begin: tell(before + done))
            known |= {digests[row]: feature for row, feature in zip(rows, computed, strict=True)}
            self.store(folder, [digests[row] for row in rows], computed)
        seconds = time.monotonic() - start
        self.say(f"{title}: {f'{len(missing):,} computed in {seconds:.1f} s' if missing else 'from the cache'}")
        self.model.train(training)
        return torch.stack([known[digest] for digest in digests]).to(self.device)

    def compute(self, decoded: Decoded, rows: Tensor, dtype: torch.dtype, tell: Callable[[int], None]) -> Tensor:
        """The features of the images at these indices, float32 [N, D], on the CPU. tell: called after each batch with
        the number of images so far."""
        parts, limit = [], self.config.train.eval_batch_size
        size = evaluation_batch_size(decoded.images.shape, limit, self.device)
        with autocast(self.device, dtype):
            for each in rows.split(size):
                images = gather(decoded, each, 0, self.device).images
                parts.append(self.model.features(self.transform(images)).float().cpu())
                tell(sum(map(len, parts)))
        return torch.cat(parts)

    def folder(self, decoded: Decoded, dtype: torch.dtype) -> Path:
        """The folder of the features of images like those of a split in the cache folder."""
        return cache_root(self.config.data) / f"{FEATURES}{self.key(decoded, dtype)}"

    def key(self, decoded: Decoded, dtype: torch.dtype) -> str:
        """SHA-256 of everything besides the pixels that the features depend on: weights, preprocessing, precision."""
        model, code = self.config.model, loaded_code()
        network = [model.name, model.args, self.config.data.size, tensors_digest(self.model.backbone.state_dict())]
        images = [list(decoded.images.shape[1:]), decoded.images.dtype.str, self.preprocessing]
        return key_of([*network, *images, precision_name(dtype), self.device.type, code.digest if code else ""])

    def store(self, folder: Path, digests: list[bytes], features: Tensor) -> None:
        """Write features [N, D] into the cache folder. A full or read-only folder costs time only, and is reported."""
        name = hashlib.sha256(b"".join(digests)).hexdigest()
        stored = {"digests": torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8), "features": features}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_tensors(folder / f"{name}.safetensors", stored, {"source": f"features of {self.config.model.name}"})
        except (SightlineError, OSError) as error:
            self.say(f"the features are not stored for later runs: {error}")


def stored_features(folder: Path) -> dict[bytes, Tensor]:
    """The features [D] of all images in a folder by the hash of their pixels. Damaged files are left out."""
    found: dict[bytes, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors = read_tensors(path)[0]
            digests = tensors["digests"].numpy().tobytes()
            found |= dict(zip(pieces(digests), tensors["features"], strict=True))
        except (SightlineError, KeyError, ValueError):
            continue
    return found


def pieces(digests: bytes) -> list[bytes]:
    """Joined hashes as a list."""
    return [digests[begin : begin + DIGEST_BYTES] for begin in range(0, len(digests), DIGEST_BYTES)]


def pixel_digests(decoded: Decoded) -> list[bytes]:
    """A hash of the pixels of each image of a split."""
    if decoded.digests is not None:
        return pieces(np.ascontiguousarray(decoded.digests).tobytes())
    return [hashlib.sha256(image.tobytes()).digest()[:DIGEST_BYTES] for image in decoded.images]
