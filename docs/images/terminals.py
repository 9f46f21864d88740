"""Draw docs/images/NAME.svg: a terminal with commands and what they print.

python -c "from sightline.data.scenes import write_scenes; write_scenes('land', 200, 30, size=192)"
python -c "from sightline.data.sources.libraries import write_digits; write_digits('digits')"
sightline train digits --train.epochs 8 --out runs/digits
sightline train landcover_finetune --data land --data.palette landcover --train.epochs 8 --out runs/scenes
python docs/images/terminals.py export.svg "sightline export runs/digits --int8"
python docs/images/terminals.py score.svg \
    "sightline score --truth land/validation --pred runs/scenes/predictions/val --palette landcover" --lines 14
python docs/images/terminals.py recipes.svg "sightline recipes photos_finetune" --lines 48
python docs/images/terminals.py data.svg "sightline doctor digits" --lines 8
python docs/images/terminals.py masks.svg "sightline doctor land --data.palette landcover" --lines 9
python docs/images/terminals.py streaming.svg "sightline pack digits shards --shard-mb 1" \
    "sightline train digits --data shards --train.epochs 2 --report.samples 0 --out runs/streamed" --lines 14
python docs/images/terminals.py scale.svg \
    "torchrun --nproc-per-node 2 -m sightline train digits --train.epochs 2 --report.samples 0 --out runs/two"
python docs/images/terminals.py predict.svg "sightline predict runs/digits new/1703.png"   # a handwritten 0
"""

import argparse
import io
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sightline.errors import FINDINGS
from sightline.runs.atomic import atomic_write

LEAST, MOST = 96, 124  # columns
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Rich's template without its fonts, which a page would load from elsewhere."""


def main() -> None:
    """Run the commands, and write what they print as a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--lines", type=int, default=60, help="of the output of each command; the rest is left out")
    given = parser.parse_args()
    texts: list[Text] = []
    for command in given.commands:
        name, *arguments = shlex.split(command)
        module = {"sightline": "sightline", "torchrun": "torch.distributed.run"}[name]
        ran = subprocess.run(
            [sys.executable, "-m", module, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )  # fmt: skip
        assert ran.returncode in (0, FINDINGS), ran.stdout
        lines = ran.stdout.replace(f"{Path.cwd()}/", "").replace(str(Path.home()), "~").rstrip().split("\n")
        texts += [Text(f"$ {command}", style="bold"), *map(Text, lines[: given.lines])]
        texts += [Text("...", style="dim")] * (len(lines) > given.lines)
    width = min(MOST, max(LEAST, 1 + max(map(len, texts))))
    console = Console(record=True, width=width, file=io.StringIO())
    for text in [*texts, Text("")]:
        console.print(text)
    picture = console.export_svg(title="", code_format=SVG, unique_id=Path(given.picture).stem)
    atomic_write(Path(__file__).with_name(given.picture), picture.encode())


if __name__ == "__main__":
    main()
