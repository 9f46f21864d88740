"""Layout of a U-Net: the encoder downwards on the left, the decoder upwards on the right."""

from collections.abc import Iterable
from itertools import pairwise

from .boxes import Piece, Totals, box, route, translated
from .layout import GAP, Column, Edge, Leaf, shape_label

MIDDLE, LEVEL, MIN_SKIPS = 30.0, 27.0, 4
"""Pixels between encoder and decoder, and between levels; minimum number of skip connections of a U-Net."""


def unet_skips(column: Column) -> list[Edge]:
    """The skip connections of a U-Net, the outermost first; [] if the column is not a U-Net.

    A U-Net has at least MIN_SKIPS skip connections, each inside the next outer one. All other links connect neighbors.
    """
    skips = sorted(link for link in column.links if link[1] - link[0] > 1)
    nested = all(outer[0] < inner[0] and inner[1] < outer[1] for outer, inner in pairwise(skips))
    plain = all(isinstance(part, Leaf) and not part.inside for part in column.parts)
    chained = len(column.links) == len(column.parts) - 1 + len(skips)
    return skips if len(skips) >= MIN_SKIPS and nested and plain and chained else []


def unet_layout(column: Column, skips: list[Edge], width: float, totals: Totals) -> Piece:
    """Draw encoder and decoder of a U-Net side by side, with horizontal arrows for the skip connections.

    skips: (source row, user row) of each skip connection, the outermost first.
    """
    own = (width - MIDDLE) / 2
    blocks = [part.block for part in column.parts if isinstance(part, Leaf)]
    pieces = [box(block, own, totals) for block in blocks]
    count, deepest = len(pieces), skips[-1]
    turn = deepest[1] - (1 if deepest[1] - deepest[0] > 2 else 0)  # index of the first box on the right
    tops: dict[int, float] = {}

    def pile(rows: Iterable[int], bottom: float) -> float:
        """Place boxes one above the other, from `bottom` upwards; returns their total height."""
        y = bottom
        for row in rows:
            tops[row] = y - pieces[row].height
            y = tops[row] - GAP
        return bottom - y - GAP

    bottom, previous = -LEVEL, (-1, count)
    for start, end in [*skips, (turn - 1, turn)]:
        left, right = range(start, previous[0], -1), range(end, previous[1])
        bottom += LEVEL + max(pile(left, 0), pile(right, 0))
        pile(left, bottom)
        pile(right, bottom)
        previous = (start, end)
    markup = [
        translated(piece.markup, 0 if row < turn else own + MIDDLE, tops[row]) for row, piece in enumerate(pieces)
    ]
    bottoms = {row: tops[row] + piece.height for row, piece in enumerate(pieces)}
    middles = own / 2, own + MIDDLE + own / 2
    for start, end in [*skips, *pairwise(range(count))]:
        if start < turn <= end:
            x, y = own + (5 if blocks[start].repeat > 1 else 0), bottoms[start]
            y -= min(pieces[start].height, pieces[end].height) / 2
            turns_up = bottoms[end] < y
            markup.append(
                route((x, y), *([(middles[1], y), (middles[1], bottoms[end])] if turns_up else [(own + MIDDLE, y)]))
            )
        else:
            x, rising = middles[start >= turn], start >= turn
            y, goal = (tops[start], bottoms[end]) if rising else (bottoms[start], tops[end])
            markup += [route((x, y), (x, goal)), shape_label(pieces[start].shape, x, (y + goal) / 2, own)]
    return Piece("".join(markup), bottom + 3)
