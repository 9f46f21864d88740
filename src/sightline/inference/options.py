"""The options of `sightline predict`."""

from dataclasses import dataclass

PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction. overlay, tile: used only for masks. features, precision: used only for tables."""

    overwrite: bool = False
    features: bool = False
    overlay: bool = False
    tile: int = 1024
    precision: str = "fp32"
