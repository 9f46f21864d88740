"""Draw docs/images/packages.svg, the diagram of docs/architecture.md: python docs/images/packages.py"""

from pathlib import Path

LAYERS = (
    ("commands", ("cli", "train", "evaluate · predict · reporting", "transfer", "sweep", "start", "repeat", "recipes")),
    ("one command each", ("export", "serve", "doctor", "segment_anything")),
    ("tasks", ("classify", "segment", "pretrain", "contract · TASKS")),
    ("reports, predictions", ("report", "inference")),
    ("training", ("engine",)),
    ("figures", ("insight",)),
    ("data, models, metrics", ("data", "models", "stats")),
    ("foundations", ("runs", "config", "errors.py")),
)
WIDTH, LEFT, ROW, GAP, HEIGHT = 1000, 210, 62, 10, 44
COLORS = ("#e8eef7", "#e8eef7", "#fde7c8", "#e6f2e6", "#e6f2e6", "#e6f2e6", "#f1ecf7", "#f3f3f3")
NOTE = "Imports point downward, except between the tasks and the packages that use TASKS."


def diagram() -> str:
    """The SVG: one row per layer, one box per package."""
    parts = []
    for number, (title, packages) in enumerate(LAYERS):
        top, free = 20 + number * ROW, WIDTH - LEFT - 20 - GAP * (len(packages) - 1)
        parts.append(f'<text x="{LEFT - 14}" y="{top + 27}" text-anchor="end" fill="#555">{title}</text>')
        letters, left = sum(len(name) + 6 for name in packages), float(LEFT)
        for name in packages:
            width = free * (len(name) + 6) / letters
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="6" fill="{COLORS[number]}" '
                f'stroke="#8a94a6"/><text x="{left + width / 2:.1f}" y="{top + 27}" text-anchor="middle">{name}</text>'
            )
            left += width + GAP
    height = 20 + ROW * len(LAYERS) + 24
    note = f'<text x="{LEFT}" y="{height - 12}" fill="#555">{NOTE}</text>'
    style = (
        '<style>text{font:14px system-ui,sans-serif;fill:#1d2330}</style><rect width="100%" height="100%" fill="#fff"/>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    return f"{head}{style}{''.join(parts)}{note}</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("packages.svg").write_text(diagram(), encoding="utf-8")
