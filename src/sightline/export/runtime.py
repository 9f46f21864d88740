"""onnxruntime, loaded so that it keeps and sends nothing about this machine."""

import os
from types import ModuleType


def load_onnxruntime() -> ModuleType:
    """The module; ImportError where it is not installed.

    Version 1.32 writes down in the home folder what it is used for, to be sent to its maker. That must be switched off
    before it is loaded: its own `disable_telemetry_events` comes too late (tried with 1.32.0).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
