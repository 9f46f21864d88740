"""Segment Anything through transformers: a picture is embedded once, and points or boxes in it give masks.

SAM 1, SAM 2 and SAM 3's tracker have one interface there, which is all that is used here.
"""

import contextlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine.device import usable_device
from ..errors import SightlineError
from .checkpoint import Checkpoint, find_checkpoint


@dataclass(frozen=True, eq=False)
class Embedded:
    """What the encoder made of a picture. size: its height and width. seen: those at which the model saw it.

    features: the model's own, a tensor or several; on its device.
    """

    size: tuple[int, int]
    seen: tuple[int, int]
    features: Any


@dataclass(frozen=True, eq=False)
class Sam:
    """A checkpoint that is loaded. It holds nothing of the pictures, so any thread may call it."""

    name: str
    checkpoint: Checkpoint
    processor: Any
    network: Any
    device: torch.device

    @torch.inference_mode()
    def embedded(self, image: np.ndarray) -> Embedded:
        """The features of an image uint8 [3, H, W]: the costly part, once a picture."""
        pixels = torch.tensor(image)  # a copy: the library refuses arrays that it must not write to
        inputs = self.processor(images=pixels, input_data_format="channels_first", return_tensors="pt")
        values = inputs["pixel_values"]
        seen = inputs["reshaped_input_sizes"][0].tolist() if "reshaped_input_sizes" in inputs else values.shape[-2:]
        features = self.network.get_image_embeddings(values.to(self.device))
        return Embedded((image.shape[1], image.shape[2]), (int(seen[0]), int(seen[1])), features)

    @torch.inference_mode()
    def masks_at(
        self,
        embedded: Embedded,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] = (),
        box: tuple[float, float, float, float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(masks bool [M, H, W], predicted IoU float32 [M]) of what is meant by points, a box, or both, the best first.

        points: (x, y) in pixels of the image; labels: 1 for a point within, 0 for one outside, all within if left out.
        box: x0, y0, x1, y1. One point alone may mean a thing, its part or the whole it belongs to: it gives three
        masks; more gives one, as the authors advise. Raises SightlineError for a prompt outside of the image.
        """
        labels = labels or (1,) * len(points)
        check_prompt(embedded.size, points, labels, box)
        # A leading 1: one prompt. Every tensor of coordinates is float32, that of the labels int64.
        places = torch.tensor([list(points)], dtype=torch.float32) if points else None
        kinds = torch.tensor([list(labels)], dtype=torch.int64) if points else None
        boxes = torch.tensor([box], dtype=torch.float32) if box else None
        logits, quality = self.prompted(embedded, places, kinds, boxes, several=len(points) == 1 and box is None)
        order = quality.argsort(descending=True, stable=True)
        masks = self.full_size(embedded, logits[order]) > 0
        return masks.cpu().numpy(), quality[order].float().cpu().numpy()

    def prompted(
        self,
        embedded: Embedded,
        points: torch.Tensor | None,
        labels: torch.Tensor | None,
        boxes: torch.Tensor | None = None,
        several: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mask logits [B * M, h, w] at the model's own size, predicted IoU [B * M]) of B prompts; M is 3 if `several`.

        points: float32 [B, P, 2], labels: int64 [B, P], boxes: float32 [B, 4], in pixels of the image.
        """
        scale = torch.tensor([embedded.seen[1] / embedded.size[1], embedded.seen[0] / embedded.size[0]])
        prompt: dict[str, torch.Tensor] = {}
        if points is not None and labels is not None:
            prompt |= {"input_points": (points * scale)[None], "input_labels": labels[None]}
        if boxes is not None:
            prompt["input_boxes"] = (boxes.reshape(-1, 2, 2) * scale).reshape(1, -1, 4)
        prompt = {key: value.to(self.device) for key, value in prompt.items()}
        found = self.network(image_embeddings=embedded.features, multimask_output=several, **prompt)
        return found.pred_masks[0].flatten(0, 1), found.iou_scores[0].flatten()

    def full_size(self, embedded: Embedded, logits: torch.Tensor) -> torch.Tensor:
        """Mask logits [n, h, w] as float [n, H, W] in the size of the image; above 0 is within the mask."""
        sizes = {"original_sizes": [embedded.size], "reshaped_input_sizes": [embedded.seen]}
        return self.processor.post_process_masks([logits[:, None]], **sizes, binarize=False)[0][:, 0]


def check_prompt(
    size: tuple[int, int],
    points: Sequence[tuple[float, float]],
    labels: Sequence[int],
    box: tuple[float, float, float, float] | None,
) -> None:
    """SightlineError where a prompt means nothing in an image of this height and width."""
    height, width = size
    where, cure = f"an image of {width} x {height} pixels", "give (x, y) in pixels of the image, from its top left"

    def outside(x: float, y: float) -> bool:
        return not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= width and 0 <= y <= height)

    if not points and box is None:
        raise SightlineError("nothing was pointed at", where=where, cure="give a point or a box")
    if len(points) != len(labels) or any(label not in (0, 1) for label in labels):
        why = f"{len(points)} points, labels {list(labels)}"
        raise SightlineError("each point needs a label", where=where, why=why, cure="1 within, 0 outside")
    for x, y in points:
        if outside(x, y):
            raise SightlineError("a point lies outside of the image", where=where, why=f"it is ({x}, {y})", cure=cure)
    if box is not None and (outside(*box[:2]) or outside(*box[2:]) or box[2] <= box[0] or box[3] <= box[1]):
        why = f"it is {tuple(box)}"
        cure = "give x0, y0, x1, y1 with x0 < x1 and y0 < y1, within the image"
        raise SightlineError("the box is none", where=where, why=why, cure=cure)


def load_sam(name: str, download: bool = False, device: str = "auto") -> Sam:
    """The checkpoint called `name`, see `checkpoint.find_checkpoint`, ready for pictures; in float32.

    device: auto, cpu, cuda, cuda:1, mps. Raises SightlineError where it cannot be found, fetched or loaded.
    """
    return loaded(find_checkpoint(name, download), device)


def loaded(checkpoint: Checkpoint, device: str = "auto") -> Sam:
    """A checkpoint in memory; SightlineError where its files are damaged or lack tensors of the model."""
    from transformers import AutoImageProcessor, AutoModelForMaskGeneration

    place = chosen_device(device)
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with unseen_bars():
            processor = AutoImageProcessor.from_pretrained(checkpoint.folder, **where)
            network, facts = AutoModelForMaskGeneration.from_pretrained(
                checkpoint.folder, **where, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except MemoryError:
        raise
    except Exception as error:  # damaged JSON and tensors come as nearly every type there is
        if "memory" in str(error).lower():
            raise
        raise damaged(checkpoint.folder, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    missing = sorted(facts["missing_keys"])
    if missing:
        raise damaged(checkpoint.folder, f"{len(missing):,} tensors are missing, the first: {missing[0]}")
    return Sam(checkpoint.name, checkpoint, processor, network.to(place).eval(), place)


def damaged(folder: Path, why: str) -> SightlineError:
    """The error for a checkpoint that does not load."""
    cure = "fetch it again, or write it again with save_pretrained"
    return SightlineError("this checkpoint cannot be loaded", where=str(folder), why=why, cure=cure)


def chosen_device(name: str) -> torch.device:
    """The device of this name; auto: CUDA where there is one, else the processor. MPS was never tried: ask for it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name, "device auto, or cpu")


@contextlib.contextmanager
def unseen_bars() -> Generator[None]:
    """transformers' bar for each load, which would stand between the command's own lines, put off for a while."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # a table of unused tensors: of SAM 2's video parts, which are not wanted
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
