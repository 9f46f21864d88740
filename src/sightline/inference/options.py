"""The options of `sightline predict`."""

from dataclasses import dataclass

PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction. overlay, tile: only for masks. features, precision: only for tables. format: of a file
    for annotation programs, see `prelabels`; "" for tables and masks."""

    overwrite: bool = False
    features: bool = False
    overlay: bool = False
    tile: int = 1024
    precision: str = "fp32"
    format: str = ""
