"""`sightline export --format onnx`: trace the graph, compare it with PyTorch on the validation images, write it."""

import os
import shlex
import time
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..data.decode.decoding import size_text
from ..errors import SightlineError
from ..inference.evaluation import warn_if_changed
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite, write_json
from ..runs.checkpoint import checked_description
from ..runs.provenance import installed_versions
from ..tasks import TASKS
from .contract import Say, TaskGraph
from .quantize import quantized
from .session import OnnxSession, require_onnx
from .tracing import serialized, traced


def export_onnx(folder: Path, config: Config, target: Path, int8: bool, say: Say) -> Path:
    """Write the graph of a run to `target`, and the results of its checks to the .json file beside it; returns
    `target`.

    int8: whether to write a quantized graph too. Raises SightlineError if the graph fails a check.
    """
    require_onnx()
    task = graph_of(folder, config, say)
    warn_if_changed(folder, task.split, task.digest, say)
    say("writing the graph")
    content = serialized(traced(task.network, task.outputs, task.smallest, task.channels), facts_of(folder, task))
    start, checks = time.monotonic(), []
    rejected = target.with_name(f"{target.stem}.refused{target.suffix}")
    for parity in task.compare(OnnxSession(content)):
        say(str(parity))
        checks.append(parity.as_dict())
        try:
            parity.require(rejected)
        except SightlineError:
            atomic_write(rejected, content)
            raise
        if parity.stored and parity.differ > parity.ties:
            say(
                f"warning: {parity.stored} does not have the predictions of these weights in float32; to write them "
                f"again: sightline evaluate {shlex.quote(str(folder))}"
            )
    seconds = time.monotonic() - start
    facts: dict[str, Any] = {"file": target.name, "bytes": len(content), "checks": checks}
    facts["check_seconds"] = round(seconds, 1)
    atomic_write(target, content)
    rejected.unlink(missing_ok=True)
    say(f"{target}: {size_text(len(content))}; checked in {seconds:.0f} s")
    write_json(target.with_suffix(".json"), finite(facts))
    if int8:
        facts["int8"] = quantized(content, task, config, target, say)
        write_json(target.with_suffix(".json"), finite(facts))
    return target


def graph_of(folder: Path, config: Config, say: Say) -> TaskGraph:
    """Load the network of a run and the data for the check.

    If this fails because the data is missing, the SightlineError suggests --data.
    """
    task = TASKS[config.task]
    graph = task.supported(task.export, "export", str(folder))
    try:
        return graph(folder, config, say)
    except SightlineError as error:
        if os.path.exists(config.data.path) or ":" in config.data.path:
            raise
        cure = (
            "give the present path of the run's data, whose validation images are used to check the graph: --data PATH"
        )
        raise SightlineError(error.what, where=error.where, why=error.why, cure=cure, status=error.status) from error


def facts_of(folder: Path, task: TaskGraph) -> dict[str, Any]:
    """The metadata of the graph file: model, classes, palette, preprocessing, inputs and outputs."""
    with checked_description(run_folder.shipped_checkpoints(folder)[0]) as description:
        facts = {key: description.get(key) for key in ("task", "classes", "palette", "preprocessing", "model")}
    channels = task.channels
    values = (
        "RGB, 0 to 255" if channels.plain else f"the values of the files; the channels: {', '.join(channels.names)}"
    )
    facts["input"] = f"images: {channels.dtype} [N, {len(channels)}, H, W], {values}; of any height and width"
    facts["output"] = "; ".join(f"{name}: {shape}" for name, shape in task.outputs.items())
    facts |= task.metadata
    return facts | {"sightline": installed_versions().get("sightline-vision", ""), "run": folder.resolve().name}
