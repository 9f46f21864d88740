"""What the tests of sweeps share."""

from typing import Any


def shown(rows: list[dict[str, Any]]) -> list[tuple]:
    """Of trials what must not depend on time: settings, state, value, epochs."""
    return [(r["trial"], r["state"], r["values"], r["value"], r["best_epoch"], r["epochs"], r["same_as"]) for r in rows]
