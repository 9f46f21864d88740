"""Expand ~ and environment variables in paths; find the settings whose values are paths."""

import os
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

from ..errors import SightlineError

NO_PATH = ("", "none", "pretrained", "imagenet", "coco")
"""Values of settings for paths that are not paths but have a special meaning."""
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def path_of(path: str | os.PathLike[str]) -> Path:
    """The path of a file or folder that the user gives for a result or a run, with ~ and variables expanded."""
    if not isinstance(path, str | os.PathLike):
        why, cure = f"it is a {type(path).__name__}", "give a text or a Path, for example 'runs/a'"
        raise SightlineError("this is not a path", where=repr(path)[:80], why=why, cure=cure)
    return Path(expanded(os.fspath(path)))


def expanded(path: str) -> str:
    """Expand ~, $NAME and ${NAME} in a path. URLs, and paths of existing files whose name contains `$`, are returned
    unchanged. Raises SightlineError for variables that are unset or empty."""
    if "$" not in path or os.path.exists(path) or is_url(path):
        return os.path.expanduser(path)
    names = [first or second for first, second in VARIABLE.findall(path)]
    unset = list(dict.fromkeys(name for name in names if not os.environ.get(name)))
    if unset:
        cure = f"set the variable: export {unset[0]}=FOLDER; or write the path without variables"
        what = (
            "an environment variable in this path is not set"
            if len(unset) == 1
            else "environment variables in this path are not set"
        )
        raise SightlineError(what, where=path, why="not set: " + ", ".join(f"${name}" for name in unset), cure=cure)
    return os.path.expanduser(VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], path))


def absolute(path: str) -> str:
    """Expand a path and make it absolute."""
    return os.path.abspath(expanded(path))


def absolute_or_name(path: str) -> str:
    """The absolute path of a file or folder that exists; else the text itself, which may be the name of a data set or
    of weights."""
    found = absolute(path)
    return found if os.path.exists(found) else path


def paths_in(config: Any) -> dict[str, str]:
    """The settings of a configuration that are paths: {dotted key: path}."""
    paths = {key: attrgetter(key)(config) for key in config.path_keys}
    return {key: path for key, path in paths.items() if path not in NO_PATH}


def is_url(path: str) -> bool:
    """Whether a path is an HTTP URL."""
    return path.startswith(("http://", "https://"))


def relative_path(path: str, folder: str) -> str:
    """The path relative to a folder; absolute if the two are on different drives of Windows."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return os.path.abspath(path)
