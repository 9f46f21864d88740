"""Segment Anything through transformers: embed an image once, then prompt it with points or boxes.

Uses only the part of the interface that SAM 1, SAM 2 and the tracker of SAM 3 have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..engine.device import usable_device
from ..engine.memory import is_out_of_memory
from ..errors import SightlineError
from .checkpoint import Checkpoint, find_checkpoint

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """The output of the image encoder for one image.

    size: (height, width) of the image. model_size: (height, width) to which the model resized it. features: a tensor,
    or several tensors for SAM 2 and 3, on the model's device.
    """

    size: tuple[int, int]
    model_size: tuple[int, int]
    features: Any


@dataclass(frozen=True, eq=False)
class Sam:
    """A loaded checkpoint. It stores nothing between calls, so that several threads may use it."""

    name: str
    processor: Any
    network: Any
    device: torch.device

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> ImageEmbedding:
        """Encode an image uint8 [3, H, W]. This is the slowest step, and it is needed only once per image."""
        pixels = torch.tensor(image)  # a copy: the processor rejects read-only arrays
        inputs = self.processor(images=pixels, input_data_format="channels_first", return_tensors="pt")
        values = inputs["pixel_values"]
        seen = inputs["reshaped_input_sizes"][0].tolist() if "reshaped_input_sizes" in inputs else values.shape[-2:]
        features = self.network.get_image_embeddings(values.to(self.device))
        return ImageEmbedding((image.shape[1], image.shape[2]), (int(seen[0]), int(seen[1])), features)

    @torch.inference_mode()
    def predict_masks(
        self,
        embedding: ImageEmbedding,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] = (),
        box: Box | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks for a prompt of points, a box, or both: (masks bool [M, H, W], predicted IoU float32 [M]), highest IoU
        first.

        points: (x, y) in pixels of the image. labels: for each point, 1 inside the object or 0 outside; by default all
        1. box: x0, y0, x1, y1. As SAM's authors recommend, a single point yields three masks, because it is ambiguous
        (object, part or subpart); other prompts yield one mask. Raises SightlineError for an invalid prompt.
        """
        labels = labels or (1,) * len(points)
        check_prompt(embedding.size, points, labels, box)
        # The leading dimension is the batch of prompts, here of one.
        coordinates = torch.tensor([list(points)], dtype=torch.float32) if points else None
        kinds = torch.tensor([list(labels)], dtype=torch.int64) if points else None
        boxes = torch.tensor([box], dtype=torch.float32) if box else None
        logits, quality = self.predict_logits(
            embedding, coordinates, kinds, boxes, several=len(points) == 1 and box is None
        )
        order = quality.argsort(descending=True, stable=True)
        masks = self.upsample(embedding, logits[order]) > 0
        return masks.cpu().numpy(), quality[order].float().cpu().numpy()

    def predict_logits(
        self,
        embedding: ImageEmbedding,
        points: torch.Tensor | None,
        labels: torch.Tensor | None,
        boxes: torch.Tensor | None = None,
        several: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits [B * M, h, w] and predicted IoU [B * M] for B prompts.

        The logits have the resolution of the mask decoder. points: float32 [B, P, 2], labels: int64 [B, P], boxes:
        float32 [B, 4], in pixels of the image. M is 3 if `several`, else 1.
        """
        (height, width), (model_height, model_width) = embedding.size, embedding.model_size
        scale = torch.tensor([model_width / width, model_height / height])
        prompt: dict[str, torch.Tensor] = {}
        if points is not None and labels is not None:
            prompt |= {"input_points": (points * scale)[None], "input_labels": labels[None]}
        if boxes is not None:
            prompt["input_boxes"] = (boxes.reshape(-1, 2, 2) * scale).reshape(1, -1, 4)
        prompt = {key: value.to(self.device) for key, value in prompt.items()}
        found = self.network(image_embeddings=embedding.features, multimask_output=several, **prompt)
        return found.pred_masks[0].flatten(0, 1), found.iou_scores[0].flatten()

    def upsample(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        """Upsample mask logits [n, h, w] to the size of the image: float [n, H, W], above 0 inside the mask."""
        sizes = {"original_sizes": [embedding.size], "reshaped_input_sizes": [embedding.model_size]}
        return self.processor.post_process_masks([logits[:, None]], **sizes, binarize=False)[0][:, 0]


def check_prompt(
    size: tuple[int, int], points: Sequence[tuple[float, float]], labels: Sequence[int], box: Box | None
) -> None:
    """Raise SightlineError for an invalid prompt of `predict_masks` on an image of `size` (height, width)."""
    height, width = size
    corners = [(box[0], box[1]), (box[2], box[3])] if box else []
    if not points and not box:
        why = "there is neither a point nor a box"
    elif len(points) != len(labels) or not {*labels} <= {0, 1}:
        why = f"{len(points)} points have the labels {list(labels)}"
    elif not all(0 <= x <= width and 0 <= y <= height for x, y in (*points, *corners)):  # False for NaN
        why = "a point or a corner of the box lies outside the image"
    elif box and (box[2] <= box[0] or box[3] <= box[1]):
        why = f"the box {tuple(box)} is empty"
    else:
        return
    cure = (
        "give points (x, y), each with the label 1 (inside the object) or 0 (outside), or a box (x0, y0, x1, y1) with "
        "x0 < x1 "
        "and y0 < y1, all in pixels from the top left corner of the image"
    )
    raise SightlineError("invalid points or box", where=f"an image of {width} x {height} pixels", why=why, cure=cure)


def load_sam(name: str, download: bool = False) -> Sam:
    """Load the checkpoint `name`, see `find_checkpoint`; raises SightlineError if it is missing or damaged."""
    return load(find_checkpoint(name, download))


def load(checkpoint: Checkpoint) -> Sam:
    """Load a checkpoint in float32; raises SightlineError if files are damaged or tensors are missing."""
    from transformers import AutoImageProcessor, AutoModelForMaskGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # to hide warnings about unused tensors of SAM 2's video model
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoImageProcessor.from_pretrained(checkpoint.folder, **options)
        network, facts = AutoModelForMaskGeneration.from_pretrained(
            checkpoint.folder, **options, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        missing = sorted(facts["missing_keys"])
        if missing:
            raise ValueError(f"{len(missing):,} tensors are missing, the first: {missing[0]}")
    except Exception as error:  # damaged JSON and tensors raise errors of many types
        if is_out_of_memory(error):
            raise
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        what, cure = (
            "this checkpoint cannot be loaded",
            "download it again with --download, or write it again with save_pretrained",
        )
        raise SightlineError(what, where=str(checkpoint.folder), why=why, cure=cure) from error
    device = sam_device()
    return Sam(checkpoint.name, processor, network.to(device).eval(), device)


def sam_device() -> torch.device:
    """The CUDA device if there is one, else the CPU; MPS is untested."""
    return usable_device("cuda" if torch.cuda.is_available() else "cpu", "hide the GPU with CUDA_VISIBLE_DEVICES=")
