"""Recipes of earlier versions: `pretrain.contrast`, the weight of a contrastive loss in place of the method's own."""

from collections.abc import Mapping
from typing import Any

from ...errors import SightlineError

NOTE = "pretrain.contrast 1 is now the objective `moco`: this run's method is moco"


def upgrade(values: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """Replace `pretrain.contrast` in the nested values of a recipe; returns (values, a note or "").

    0 is left out. 1 with BYOL is the objective `moco`, whose loss, networks and random numbers are the same. Raises
    SightlineError for other weights, which mixed two losses, and for SimSiam. where: origin of the values.
    """
    pretrain = values.get("pretrain")
    if not isinstance(pretrain, Mapping) or "contrast" not in pretrain:
        return values, ""
    rest = {key: value for key, value in pretrain.items() if key != "contrast"}
    weight, method = pretrain["contrast"], rest.get("method", "byol")
    if weight == 0:
        return {**values, "pretrain": rest}, ""
    if weight == 1 and method == "byol":
        return {**values, "pretrain": rest | {"method": "moco"}}, NOTE
    why = "an objective now has one loss: byol and simsiam their own, moco the contrastive loss of MoCo v3"
    cure = f"remove `contrast` from the section `pretrain`; to use the weights, leave `method: {method}` as it is"
    what = f"the recipe mixes the loss of {method} with pretrain.contrast {weight}"
    raise SightlineError(what, where=where, why=why, cure=cure)
