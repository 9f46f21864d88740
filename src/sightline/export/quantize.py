"""Static int8 quantization with onnxruntime, calibrated on training images; measures accuracy, size and speed."""

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config.schema import Config
from ..data.decode.decoding import size_text
from ..data.decode.images import planes
from ..data.types import Items
from ..engine.device import device_name
from ..errors import ENVIRONMENT, SightlineError, counted
from ..runs.atomic import atomic_write
from ..stats.intervals import points
from .contract import Say, TaskGraph
from .session import OnnxSession, load_onnxruntime

CALIBRATION = 128
"""Maximum number of training images from which the value ranges of the activations are computed."""
HEAVY = ("Conv", "Gemm", "MatMul")


class CalibrationImages:
    """Calibration data for onnxruntime: training images, one at a time. onnxruntime calls `get_next` until it
    returns None. skip_bad: whether unreadable images are left out, as in the training; else they are errors."""

    def __init__(self, items: Items, seed: int, skip_bad: bool = False):
        self.items, self.skip_bad = items, skip_bad
        rows = np.random.default_rng(seed).permutation(len(items.names))
        self.images = islice(self.readable(rows), CALIBRATION)

    def readable(self, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """Yield the images at these indices as the graph's input."""
        for row in rows:
            try:
                pixels = planes(self.items.read(int(row)))
            except SightlineError as error:
                if self.skip_bad and error.status != ENVIRONMENT:
                    continue
                raise
            yield {"images": np.ascontiguousarray(pixels[None])}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image as the graph's input; None after the last."""
        return next(self.images, None)


def quantized(model: bytes, task: TaskGraph, config: Config, target: Path, say: Say) -> dict[str, Any]:
    """Write the int8 graph to NAME-int8.onnx beside `target` (NAME.onnx); returns its accuracy, size and speed for
    model.json.

    model: the bytes of the float32 graph. config: of the run.
    """
    say(f"quantizing: calibration with {min(CALIBRATION, len(task.train.names))} training images")
    start = time.monotonic()
    small = eight_bits(model, CalibrationImages(task.train, config.train.seed, config.data.on_bad_image == "skip"))
    graphs = [OnnxSession(model), OnnxSession(small)]
    cost = task.cost(graphs[1])
    path = target.with_name(f"{target.stem}-int8{target.suffix}")
    atomic_write(path, small)
    speeds, batch, threads = images_per_second(graphs, task.sample), len(task.sample), torch.get_num_threads()
    low, high = map(points, cost.interval)
    change = f"{points(cost.difference)} points" + (f" [{low}, {high}]" if np.isfinite(cost.interval).all() else "")
    say(f"int8: {cost.metric} {cost.values[1]:.4f}, float32 {cost.values[0]:.4f}: {change}; {cost.changed}")
    say(
        f"{path}: {size_text(len(small))}, float32 {size_text(len(model))}; "
        f"{speeds[1]:,.0f} images/s, float32 {speeds[0]:,.0f}, in batches of {batch} of "
        f"{task.sample.shape[3]} x {task.sample.shape[2]} pixels, on {counted(threads, 'thread')} of "
        f"{device_name(torch.device('cpu'))}"
    )
    say(f"quantized and measured in {time.monotonic() - start:.0f} s")
    return {
        "metric": cost.metric, "changed": cost.changed, "float32": cost.values[0], "int8": cost.values[1],
        "difference": cost.difference, "interval": list(cost.interval), "file": path.name, "bytes": len(small),
        "images_per_second": {"float32": speeds[0], "int8": speeds[1]}, "batch": batch, "threads": threads,
    }  # fmt: skip


def eight_bits(model: bytes, calibration: CalibrationImages) -> bytes:
    """Quantize the convolutions and matrix products that have weights to 8-bit integers; returns the bytes of the
    graph.

    All other operations, such as resizing, are computed in float32.
    """
    load_onnxruntime()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="sightline-int8-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original, prepared, result = (Path(name) / f"{part}.onnx" for part in ("original", "prepared", "result"))
        original.write_bytes(model)
        try:
            quant_pre_process(str(original), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
            graph = onnx.load(prepared).graph
            weights = {tensor.name for tensor in graph.initializer}
            heavy = [node.name for node in graph.node if node.op_type in HEAVY and weights & set(node.input)]
            quantize_static(
                str(prepared),
                str(result),
                calibration,  # ty: ignore[invalid-argument-type]
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(HEAVY),
                nodes_to_quantize=heavy,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except SightlineError:
            raise
        except Exception as error:  # the quantizer raises many types
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            cure = "use the float32 graph, which was written, or export again without --int8"
            what = "onnxruntime cannot quantize this graph"
            raise SightlineError(what, why=why, cure=cure, status=ENVIRONMENT) from error
        return result.read_bytes()


def images_per_second(graphs: Sequence[OnnxSession], images: np.ndarray, seconds: float = 2.0) -> list[float]:
    """Images per second of each graph for a batch [N, C, H, W].

    The graphs run in turns for about `seconds`, and the median time of each is used.
    """
    times: list[list[float]] = [[] for _ in graphs]
    for graph in graphs:
        graph(images)
    started = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - started < seconds:
        for graph, own in zip(graphs, times, strict=True):
            start = time.perf_counter()
            graph(images)
            own.append(time.perf_counter() - start)
    return [len(images) / float(np.median(own)) for own in times]
