"""The command line: each command parses its options, calls the Python function of the same name and prints the result.

These functions are imported only when a command runs, so that `sightline --help` does not load torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from .. import __version__

app = cyclopts.App(
    name="sightline",
    help="Train, compare and use image classifiers, segmentation models and self-supervised backbones.\n\n"
    "Your own images, one folder per class or with masks: sightline start photos/\n\n"
    "Without images of your own: sightline demo\n\n"
    "A recipe is a complete configuration. Each of its settings is an option --SECTION.KEY VALUE of the commands that "
    "train, for example --optim.lr 0.1 or --train.epochs 60. --debug adds a traceback to error messages.\n\n"
    "Exit status: 0 done, 1 bug in Sightline, 2 invalid input, 3 environment (disk, memory, network), 4 interrupted "
    "and resumable, 5 findings of doctor.",
    version=__version__,
    default_parameter=Parameter(negative=()),
)
app.register_install_completion_command()


def parse_integer(kind: type, tokens: Sequence[cyclopts.Token]) -> int:
    """Convert the value of an option to an integer. Raises ValueError for 37.5, which cyclopts alone would round."""
    text = tokens[0].value
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


Integer = Annotated[int, Parameter(converter=parse_integer)]
Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]
Text = Annotated[str, Parameter(show_default=False)]
Flag = Annotated[bool, Parameter(show_default=False)]
Code = Annotated[
    Path | None,
    Parameter(show_default=False, help="A Python file that adds models, losses, tasks and so on (docs/extend.md)."),
]
Quiet = Annotated[bool, Parameter(show_default=False, help="Print nothing but the path of the result.")]
