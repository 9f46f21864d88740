"""8-bit integers by onnxruntime's static quantization: calibrated on training pictures, and what it costs, measured."""

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..config.schema import Config
from ..data.cache import Decoded
from ..data.decode.decoding import size_text
from ..data.decode.images import planes
from ..data.loader import evaluation_batches
from ..data.sources.open import Items
from ..engine.device import device_name
from ..errors import ENVIRONMENT, SightlineError, counted
from ..runs.atomic import atomic_write
from ..stats.intervals import paired_bootstrap, points
from ..stats.paired import paired_interval
from ..tasks.segment.metrics import confusion_per_image, mean_iou, summed
from .check import Graph, graph_probabilities, images_per_second
from .runtime import load_onnxruntime

if TYPE_CHECKING:
    from .onnx_file import Checked, Say

CALIBRATION = 128
"""Training pictures from whose activations the ranges are taken."""
LARGEST_BATCH = 32
HEAVY = ["Conv", "Gemm", "MatMul"]
"""What becomes integers: nearly all of the work. The resize before and the softmax behind stay as they are."""


class Pictures:
    """What onnxruntime calibrates on: `get_next` gives one picture after the other, then None."""

    def __init__(self, items: Items, seed: int):
        count = len(items.names)
        chosen = np.random.default_rng(seed).permutation(count)[:CALIBRATION]
        self.rest: Iterator[dict[str, np.ndarray]] = (
            {"images": np.ascontiguousarray(planes(items.read(int(place)))[None])} for place in chosen
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """One picture as the graph's input."""
        return next(self.rest, None)


def quantized(checked: "Checked", config: Config, target: Path, say: "Say") -> dict[str, Any]:
    """The graph in 8 bits beside `target`, as NAME-int8.onnx; returns what it costs and brings."""
    say(f"quantizing: ranges from {min(CALIBRATION, len(checked.train.names))} training pictures")
    start = time.monotonic()
    small = eight_bits(checked.model, checked.train, config.train.seed)
    graphs = [Graph(checked.model), Graph(small)]
    facts = cost(checked, graphs[1], config)
    place = target.with_name(f"{target.stem}-int8{target.suffix}")
    atomic_write(place, small)
    batch = sample(checked)
    speeds = images_per_second(graphs, batch)
    facts |= {"file": place.name, "bytes": len(small), "images_per_second": {"float32": speeds[0], "int8": speeds[1]}}
    facts |= {"batch": len(batch), "threads": torch.get_num_threads()}
    low, high = facts["interval"]
    change = f"{points(facts['difference'])} points [{points(low)}, {points(high)}]"
    say(f"int8: {facts['metric']} {facts['int8']:.4f}, float32 {facts['float32']:.4f}: {change}; {facts['changed']}")
    sides = f"{batch.shape[3]} x {batch.shape[2]} pixels"
    where = f"{counted(torch.get_num_threads(), 'thread')} of {device_name(torch.device('cpu'))}"
    say(
        f"{place}: {size_text(len(small))}, float32 {size_text(len(checked.model))}; "
        f"{speeds[1]:,.0f} images/s, float32 {speeds[0]:,.0f}, "
        f"in batches of {len(batch)} of {sides}, on {where}"
    )
    say(f"quantized and measured in {time.monotonic() - start:.0f} s")
    return facts


def eight_bits(model: bytes, train: Items, seed: int) -> bytes:
    """The model with integers in its convolutions and matrix products: weights by output channel, QDQ nodes."""
    load_onnxruntime()
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="sightline-int8-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, prepared, result = (Path(name) / f"{part}.onnx" for part in ("whole", "prepared", "result"))
        whole.write_bytes(model)
        try:
            quant_pre_process(str(whole), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(result),
                Pictures(train, seed),  # ty: ignore[invalid-argument-type]
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=HEAVY,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except SightlineError:
            raise
        except Exception as error:  # the quantizer raises whatever its passes do
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            cure = "leave out --int8: the float32 graph is written"
            raise SightlineError(
                "onnxruntime cannot quantize this graph", why=why, cure=cure, status=ENVIRONMENT
            ) from error
        return result.read_bytes()


def cost(checked: "Checked", graph: Graph, config: Config) -> dict[str, Any]:
    """The metric of both graphs on the validation images, the difference and its paired 95 % interval, as shares."""
    split = checked.validation
    if isinstance(split, Decoded):
        right = graph_probabilities(graph, split).argmax(1) == split.labels
        difference, interval = paired_bootstrap(checked.items, right, seed=config.train.seed)
        values, metric = (float(checked.items.mean()), float(right.mean())), "accuracy"
        lost, won = int((checked.items & ~right).sum()), int((~checked.items & right).sum())
        changed = f"{lost:,} of {len(right):,} become wrong, {won:,} right"
    else:
        classes, found = len(split.classes), []
        for batch in evaluation_batches(split, config.train.eval_batch_size):
            assert batch.labels is not None
            mask = graph(batch.images.numpy())["mask"]
            found.append(confusion_per_image(mask, batch.labels.numpy(), classes))
        confusions = np.concatenate(found)
        difference, interval = paired_interval(checked.items, confusions)
        changed = f"{counted(len(confusions), 'image')}"
        values, metric = tuple(float(mean_iou(summed(part))) for part in (checked.items, confusions)), "mean IoU"
    return {
        "metric": metric,
        "changed": changed,
        "float32": values[0],
        "int8": values[1],
        "difference": float(difference),
        "interval": [float(edge) for edge in interval],
    }


def sample(checked: "Checked") -> np.ndarray:
    """Validation pictures of one size to measure the speed with, uint8 [N, 3, H, W]."""
    split = checked.validation
    if isinstance(split, Decoded):
        return np.ascontiguousarray(split.images[:LARGEST_BATCH])
    height, width = split.sizes[0]
    alike = (split.sizes[:4] == split.sizes[0]).all(1)
    return np.ascontiguousarray(split.images[:4][alike][:, :, :height, :width])
