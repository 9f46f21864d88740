"""Draw docs/images/rooms.svg, the picture of docs/architecture.md: python docs/images/rooms.py"""

from pathlib import Path

LAYERS = (
    ("commands", ("cli", "train", "evaluate · predict · reporting · demo", "transfer", "sweep", "recipes")),
    ("a command each", ("export", "serve", "doctor", "segment_anything")),
    ("tasks", ("classify", "segment", "pretrain", "contract · TASKS")),
    ("shown and predicted", ("report", "insight", "inference")),
    ("around the step", ("engine",)),
    ("computed on", ("data", "models", "stats")),
    ("kept", ("runs", "config", "errors.py")),
)
WIDTH, LEFT, ROW, GAP, HEIGHT = 1000, 210, 62, 10, 44
COLORS = ("#e8eef7", "#e8eef7", "#fde7c8", "#e6f2e6", "#e6f2e6", "#f1ecf7", "#f3f3f3")


def picture() -> str:
    """The SVG: a layer a row, a room a box as wide as its name asks."""
    parts = []
    for number, (title, rooms) in enumerate(LAYERS):
        top, room = 20 + number * ROW, WIDTH - LEFT - 20 - GAP * (len(rooms) - 1)
        parts.append(f'<text x="{LEFT - 14}" y="{top + 27}" text-anchor="end" fill="#555">{title}</text>')
        letters, left = sum(len(name) + 6 for name in rooms), float(LEFT)
        for name in rooms:
            width = room * (len(name) + 6) / letters
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="6" fill="{COLORS[number]}" '
                f'stroke="#8a94a6"/><text x="{left + width / 2:.1f}" y="{top + 27}" text-anchor="middle">{name}</text>'
            )
            left += width + GAP
    height = 20 + ROW * len(LAYERS) + 24
    note = f'<text x="{LEFT}" y="{height - 12}" fill="#555">Imports point downward; commands ask TASKS.</text>'
    style = (
        '<style>text{font:14px system-ui,sans-serif;fill:#1d2330}</style><rect width="100%" height="100%" fill="#fff"/>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    return f"{head}{style}{''.join(parts)}{note}</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("rooms.svg").write_text(picture(), encoding="utf-8")
