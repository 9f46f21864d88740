"""The command line. Thin: parse, call the function of the same name, print; torch is imported only by what needs it."""

from collections.abc import Sequence
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from .. import __version__

app = cyclopts.App(
    name="sightline",
    help="Turns a folder of images into a defended result.\n\n"
    "Any setting of a recipe can follow as --section.key VALUE: --optim.lr 0.1, --train.epochs 60.",
    version=__version__,
    default_parameter=Parameter(negative=()),
)


def whole(kind: type, tokens: Sequence[cyclopts.Token]) -> int:
    """A whole number; cyclopts by itself rounds 37.5 to one."""
    text = tokens[0].value
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


Whole = Annotated[int, Parameter(converter=whole)]
Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]
