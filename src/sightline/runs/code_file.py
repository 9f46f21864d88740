"""The file of the user's own code that a command has loaded, and the copy of it that each run keeps.

`user_code.loaded` loads the file. The copy in a run is for the user to read, and is never executed by itself.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import SightlineError
from .atomic import atomic_write, read_json

FOLDER = "code"
"""Folder of the copy in a run."""


@dataclass(frozen=True)
class CodeFile:
    """A Python file, as it was when it was loaded. path: its absolute path. content: its bytes."""

    path: Path
    content: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def copy_to(self, folder: Path) -> Path:
        """Write the copy to the folder of a run, a sweep or an export; returns its path."""
        return atomic_write(folder / FOLDER / self.path.name, self.content)


LOADED: list[CodeFile] = []
"""The file that this command has loaded; empty if there is none."""


def loaded_code() -> CodeFile | None:
    """The file that this command has loaded, or None."""
    return LOADED[0] if LOADED else None


def keep_copy(folder: Path) -> dict[str, dict[str, str]]:
    """Write a copy of the loaded file to the folder of a run; returns its entry for provenance.json, {} without one."""
    code = loaded_code()
    return {"code": {"file": code.copy_to(folder).name, "sha256": code.digest}} if code else {}


def code_option(folder: Path) -> list[str]:
    """The options with which another process loads the copy in the folder of a run; [] if no file is loaded."""
    code = loaded_code()
    return ["--code", str(folder.absolute() / FOLDER / code.path.name)] if code else []


def require_code(folder: Path) -> None:
    """Raise SightlineError if the run in `folder` was trained with a file of code that is not loaded now."""
    record = read_json(folder / "provenance.json")
    used = record.get("code") if isinstance(record, dict) else None
    if not isinstance(used, dict):
        return
    code, copy = loaded_code(), folder / FOLDER / Path(str(used.get("file"))).name
    option = f"--code {shlex.quote(str(copy))}"
    if code is None:
        why = f"{copy.name} defined parts of it; Sightline executes such a file only if you give it by --code"
        cure = f"read the copy in the run, {copy}, and then repeat the command with {option}"
        raise SightlineError("this run was trained with code of your own", where=str(folder), why=why, cure=cure)
    if used.get("sha256") != code.digest:
        why = f"the SHA-256 of the file was {str(used.get('sha256'))[:12]}, and that of {code.path} is "
        cure = f"use the copy in the run: {option}; or train a new run with the other file"
        raise SightlineError(
            "this run was trained with other code", where=str(folder), why=why + code.digest[:12], cure=cure
        )
