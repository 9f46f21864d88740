"""The page of a transfer grid: table of settings, and typesetting of sentences."""

import re

from sightline.recipes.transfer import transfer_fast
from sightline.report.html import element
from sightline.transfer.grid import load_grid_file
from sightline.transfer.page import STAGE_TITLES, recipes, typeset


def test_settings_table_has_one_column_per_stage_and_only_changed_settings(tmp_path) -> None:
    grid = transfer_fast()
    text = str(element("div", recipes(grid)))
    table, details = text.split("<details>")
    rows = {cells[0]: cells[1:] for row in re.findall(r"<tr>(.*?)</tr>", table)
            if (cells := re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row))}  # fmt: skip
    assert rows["Setting"] == [*STAGE_TITLES.values(), "Default"]
    lr = [f"{getattr(grid, stage).optim.lr:g}" for stage in STAGE_TITLES]
    assert rows["optim.lr"][:4] == lr and len(set(lr)) > 2, "each column has the values of its stage"
    assert rows["pretrain.method"] == ["", "moco", "", "", "byol"]
    assert "train.clip_norm" not in rows and all(set(cells[:4]) != {cells[4]} for cells in rows.values())
    written = tmp_path / "grid.yaml"
    written.write_text(re.search(r"<code>(.*?)</code>", details, re.S).group(1).replace("&#x27;", "'"))  # ty: ignore
    assert load_grid_file(written) == grid


def test_typeset_uses_minus_signs_and_unbreakable_intervals() -> None:
    html = str(element("li", typeset("No difference between E-1 and C can be shown: -0.9 points [-3.0, 1.5].")))
    gain = str(element("li", typeset("+6.2 points [-14.4, +26.9]; give more time: --minutes 7.")))
    assert (
        '<span class="whole">[\u221214.4, +26.9]</span>' in gain and '<span class="whole">--minutes 7</span>.' in gain
    )
    chance = str(element("li", typeset("C beats A by 6.5 points [3.8, 9.2], p = 1.3e-05.")))
    assert chance.endswith('9.2]</span>, <span class="whole">p = 1.3e-05</span>.</li>')
    shown = 'E-1 and C can be shown: \u22120.9 points <span class="whole">[\u22123.0, 1.5]</span>.</li>'
    assert html.endswith(shown)
