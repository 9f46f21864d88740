"""ONNX export of a segmenter: a graph from images of any size to masks and class probabilities."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ...data.decode.masks import read_mask
from ...data.loader import evaluation_batches
from ...data.pair_cache import decode_pairs
from ...data.sources.pairs import open_pairs
from ...errors import counted
from ...export.contract import Cost, Say, TaskGraph
from ...export.networks import Normalized, SegmenterGraph
from ...export.parity import Parity
from ...export.session import OnnxSession
from ...inference.evaluation import chosen_split
from ...inference.tiles import argmax_classes
from ...models.folding import unfold_norms
from ...models.segmenters import Segmenter
from ...runs import run_folder
from ...runs.checkpoint import checked_description
from ...stats.groups import groups_of, ids_in
from ...stats.paired import iou_difference
from ...stats.segmentation import confusion_per_image, mean_iou, summed
from .config import SegmentConfig
from .evaluate import load_segmenter
from .results import mask_names


class SegmenterExport(TaskGraph):
    """The network of a segmenter with its test-time augmentation for export, and validation images for the check."""

    outputs = {"mask": "uint8 [N, H, W], indices into classes", "probabilities": "float32 [N, classes, H, W]"}

    def __init__(self, folder: Path, config: SegmentConfig, say: Say):
        parts = load_segmenter(folder, config)
        unfold_norms(parts.learner.model)
        source, palette = open_pairs(config.data, config.data.split_seed, known=parts.palette)
        self.config, self.learner, self.split = config, parts.learner, chosen_split(None, source)
        self.decoded, self.train = decode_pairs(source, self.split, palette, config.data, say), source.splits["train"]
        self.digest, self.palette = self.decoded.digest, palette
        stored = folder / "predictions" / self.split
        self.masks = [stored / name for name in mask_names(self.decoded.names)]
        if not all(path.is_file() for path in self.masks):
            self.masks = []
            say(f"note: the graph is not compared with {stored}: it does not have a mask for each image")
        height, width = self.decoded.sizes[0]
        alike = (self.decoded.sizes[:4] == self.decoded.sizes[0]).all(1)
        self.sample = np.ascontiguousarray(self.decoded.images[:4][alike][:, :, :height, :width])
        with checked_description(run_folder.shipped_checkpoints(folder)[0]) as description:
            mean, std = description["preprocessing"]["mean"], description["preprocessing"]["std"]
        self.channels, normalized = parts.channels, Normalized(mean, std, parts.channels.top)
        model = self.learner.model
        assert isinstance(model, Segmenter)
        motions = tuple(range(8)) if config.train.turn_test else (0, 4) if config.train.flip_test else (0,)
        self.network, self.smallest = SegmenterGraph(normalized, model.eval(), motions), model.smallest

    def compare(self, graph: OnnxSession) -> Iterator[Parity]:
        """Compare the masks and probabilities of PyTorch and of the exported graph on the validation images, and the
        stored masks with it."""
        ours, confusions = Parity("mean IoU", unit="pixels"), ([], [], [])
        stored = Parity("mean IoU", unit="pixels", stored=f"predictions/{self.split}")
        self.learner.parameters().eval()
        with torch.inference_mode():
            for batch in evaluation_batches(self.decoded, self.config.train.eval_batch_size):
                assert batch.labels is not None
                logits = self.learner.logits(batch.images).float()
                found = graph(batch.images.numpy())
                masks = [torch.stack([argmax_classes(scores) for scores in logits]).numpy(), found["mask"]]
                probabilities = (logits.softmax(1).numpy(), found["probabilities"])
                names = [self.decoded.names[index] for index in batch.samples.tolist()]
                ours.add(names, probabilities, masks)
                if self.masks:
                    masks.append(np.stack([read_mask(str(self.masks[row]), self.palette) for row in batch.samples]))
                    stored.add(names, probabilities, (masks[2], masks[1]))
                for mask, counts in zip(masks, confusions, strict=False):
                    counts.append(confusion_per_image(mask, batch.labels.numpy(), self.learner.classes))
        self.confusions = np.concatenate(confusions[1])
        own, found, *others = (float(mean_iou(summed(np.concatenate(counts)))) for counts in confusions if counts)
        for parity, values in zip((ours, stored), (own, *others), strict=False):
            parity.values = (values, found)
            yield parity

    def cost(self, graph: OnnxSession) -> Cost:
        """The change in mean IoU from the compared graph to `graph`, such as a quantized one, paired by image."""
        found = []
        for batch in evaluation_batches(self.decoded, self.config.train.eval_batch_size):
            assert batch.labels is not None
            mask = graph(batch.images.numpy())["mask"]
            found.append(confusion_per_image(mask, batch.labels.numpy(), self.learner.classes))
        confusions = np.concatenate(found)
        groups = groups_of(self.decoded, self.config.data)
        apart = iou_difference(self.confusions, confusions, groups=ids_in(groups))
        values = (float(mean_iou(summed(self.confusions))), float(mean_iou(summed(confusions))))
        return Cost("mean IoU", values, float(apart.value), apart.interval(), counted(len(confusions), "image"))
