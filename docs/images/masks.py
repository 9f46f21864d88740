"""Draw docs/images/masks.png: scenes, their masks, the predicted masks and overlays, four columns.

python -c "from sightline.data.scenes import write_scenes; write_scenes('land', 200, 30, size=192)"
sightline train landcover_finetune --data land --data.palette landcover --train.epochs 8 --out runs/scenes
sightline predict runs/scenes land/validation --out predicted --overlay
python docs/images/masks.py land/validation predicted 9001 9002 9003
"""

import io
import sys
from pathlib import Path

from PIL import Image

from sightline.runs.atomic import atomic_write

SIDE, GAP = 220, 8


def main(scenes: str, predicted: str, *names: str) -> None:
    """Draw a row for each name."""
    sheet = Image.new("RGB", (4 * SIDE + 3 * GAP, len(names) * (SIDE + GAP) - GAP), (232, 230, 225))
    for row, name in enumerate(names):
        files = [Path(scenes, f"{name}_sat.jpg"), Path(scenes, f"{name}_mask.png")]
        files += [Path(predicted, f"{name}_mask.png"), Path(predicted, f"{name}_overlay.png")]
        for column, file in enumerate(files):
            kept = Image.Resampling.NEAREST if "_mask" in file.name else Image.Resampling.BILINEAR
            picture = Image.open(file).convert("RGB").resize((SIDE, SIDE), kept)
            sheet.paste(picture, (column * (SIDE + GAP), row * (SIDE + GAP)))
    data = io.BytesIO()
    sheet.quantize(128).save(data, "PNG", optimize=True)
    atomic_write(Path(__file__).with_name("masks.png"), data.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
