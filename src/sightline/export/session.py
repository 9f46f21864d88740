"""Load onnxruntime without telemetry, and run a graph on the CPU."""

import os
from types import ModuleType

import numpy as np
import torch

from ..errors import ENVIRONMENT, SightlineError


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry disabled. Raises ImportError if it is not installed.

    onnxruntime 1.32 stores usage data in the home folder, to send it to its vendor. The environment variable that
    disables this must be set before the import: calling `disable_telemetry_events` after it has no effect (tested with
    1.32.0).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def require_onnx() -> None:
    """Raise SightlineError if onnx, onnxscript or onnxruntime is not installed."""
    try:
        load_onnxruntime()
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        why, cure = str(error), "pip install 'sightline-vision[onnx]'"
        raise SightlineError(
            "ONNX export needs a package that is not installed", why=why, cure=cure, status=ENVIRONMENT
        ) from error


class OnnxSession:
    """An ONNX model in onnxruntime on the CPU, with as many threads as torch.

    model: the bytes of the ONNX file. Raises SightlineError if onnxruntime cannot load or run it.
    """

    def __init__(self, model: bytes):
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise unusable(error) from error
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the outputs, by name, for images [N, C, H, W]."""
        try:
            outputs = self.session.run(self.names, {"images": np.ascontiguousarray(images)})
        except Exception as error:
            raise unusable(error) from error
        return {name: np.asarray(value) for name, value in zip(self.names, outputs, strict=True)}


def unusable(error: Exception) -> SightlineError:
    """The error for a graph that onnxruntime cannot load or run."""
    why, cure = (
        str(error).strip().splitlines()[0],
        "try another version of onnxruntime or torch, or use --format safetensors",
    )
    return SightlineError("onnxruntime cannot run the graph", why=why, cure=cure, status=ENVIRONMENT)
