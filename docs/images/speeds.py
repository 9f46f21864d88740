"""Draw docs/images/speeds.png from the tables of docs/performance.md: python docs/images/speeds.py"""

import re
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sightline.insight.style import BLUE, INK, MUTED, new_figure, png, styled
from sightline.runs.atomic import atomic_write

PAGE = Path(__file__).parent.parent / "performance.md"
TABLES = {
    "images/s of training ResNet-18 at 64x64 on machine A": "ResNet-18 at 64x64, machine A",
    "images/s of training ResNet-18 at 224x224": "ResNet-18 at 224x224 from JPEG files, machine B",
}
"""A sentence above each table, and the title of its plot."""
SPEED = re.compile(r"([\d.,]+) \(([\d.,]+) to ([\d.,]+)\)")


def rows_after(sentence: str) -> list[tuple[str, list[float]]]:
    """(tool, [images/s in the warm epoch, lowest, highest]) of the table after a sentence, slowest first."""
    table = PAGE.read_text(encoding="utf-8").split(sentence, 1)[1].split("\n\n|", 1)[1].split("\n\n", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in table.split("\n")[2:]]
    found = [(tool, SPEED.match(speed)) for tool, speed, *_ in cells]
    rows = [(tool, [float(part.replace(",", "")) for part in match.groups()]) for tool, match in found if match]
    if len(rows) != len(cells):
        raise SystemExit(f"a row without a range in the table after {sentence!r}")
    return sorted(rows, key=lambda row: row[1][0])


@styled
def draw() -> Figure:
    """One plot for each table: a bar for each tool, with the range of its runs."""
    figure = new_figure(8.6, 6.4)
    for axes, (sentence, title) in zip(figure.subplots(len(TABLES), 1), TABLES.items(), strict=True):
        draw_bars(axes, rows_after(sentence), title)
    return figure


def draw_bars(axes: Axes, rows: list[tuple[str, list[float]]], title: str) -> None:
    """Horizontal bars, ours in blue."""
    ours = [tool.startswith("Sightline") for tool, _ in rows]
    speeds = [speed for _, (speed, _, _) in rows]
    spread = [[speed - low for _, (speed, low, _) in rows], [high - speed for _, (speed, _, high) in rows]]
    colors = [BLUE if own else "#b4bac1" for own in ours]
    axes.barh(range(len(rows)), speeds, xerr=spread, color=colors, ecolor=INK, error_kw={"linewidth": 0.8})
    axes.set_yticks(range(len(rows)), [tool for tool, _ in rows])
    for place, (speed, high) in enumerate((speed, high) for _, (speed, _, high) in rows):
        axes.text(high + max(speeds) / 80, place, f"{speed:g}", va="center", color=INK if ours[place] else MUTED)
    axes.set(title=title, xlabel="images/s in the warm epoch", xlim=(0, max(speeds) * 1.12))
    axes.grid(False, axis="y")


if __name__ == "__main__":
    atomic_write(Path(__file__).with_name("speeds.png"), png(draw()))
