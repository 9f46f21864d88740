"""Paths as people write them: with ~ and with $VARIABLES; and which settings are paths."""

import os
import re
from typing import Any

from ..errors import SightlineError

NO_PATH = ("", "none", "imagenet", "coco")
"""What may stand where a path could."""
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def expanded(path: str) -> str:
    """`path` with ~ and the environment's $NAME and ${NAME} in place; `$` stays where a file is called so.

    SightlineError names the variables that are not set: an empty one would lead to another folder.
    """
    if "$" not in path or os.path.exists(path) or path.startswith(("http://", "https://")):
        return os.path.expanduser(path)
    names = [first or second for first, second in VARIABLE.findall(path)]
    unset = list(dict.fromkeys(name for name in names if not os.environ.get(name)))
    if unset:
        cure = f"export {unset[0]}=..., or write the path in full"
        what = "a variable in a path is not set" if len(unset) == 1 else "variables in a path are not set"
        raise SightlineError(what, where=path, why=", ".join(f"${name}" for name in unset), cure=cure)
    return os.path.expanduser(VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], path))


def absolute(path: str) -> str:
    """The same, absolute."""
    return os.path.abspath(expanded(path))


def paths_in(config: Any) -> dict[str, str]:
    """The settings of a recipe that hold a path, by their keys (`Config.path_keys`)."""
    paths: dict[str, str] = {}
    for key in config.path_keys:
        section, _, name = key.partition(".")
        paths[key] = config.model_dump()[section][name]
    return {key: path for key, path in paths.items() if path not in NO_PATH}


def is_address(path: str) -> bool:
    """Whether a path is the address of a server."""
    return path.startswith(("http://", "https://"))
