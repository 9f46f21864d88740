"""The recipes on the page of a transfer grid."""

import re

from sightline.recipes.transfer import transfer_fast
from sightline.report.html import element
from sightline.transfer.grid import load_grid_file
from sightline.transfer.page import STAGES, recipes, typeset


def test_the_table_of_recipes_has_the_changed_settings_only(tmp_path) -> None:
    grid = transfer_fast()
    text = str(element("div", recipes(grid)))
    table, complete = text.split("<details>")
    rows = {cells[0]: cells[1:] for row in re.findall(r"<tr>(.*?)</tr>", table)
            if (cells := re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row))}  # fmt: skip
    assert rows["Setting"] == [*STAGES.values(), "Default"]
    lr = [f"{getattr(grid, stage).optim.lr:g}" for stage in STAGES]
    assert rows["optim.lr"][:4] == lr and len(set(lr)) > 2, "one column per stage"
    assert rows["pretrain.contrast"] == ["", "1", "", "", "0"]
    assert "train.clip_norm" not in rows and all(set(cells[:4]) != {cells[4]} for cells in rows.values())
    written = tmp_path / "grid.yaml"
    written.write_text(re.search(r"<code>(.*?)</code>", complete, re.S).group(1).replace("&#x27;", "'"))  # ty: ignore
    assert load_grid_file(written) == grid


def test_sentences_have_minus_signs_and_unbroken_intervals() -> None:
    found = str(element("li", typeset("No difference between E-1 and C can be expected: -0.9 points [-3.0, 1.5].")))
    expected = 'E-1 and C can be expected: \u22120.9 points <span class="whole">[\u22123.0, 1.5]</span>.</li>'
    assert found.endswith(expected)
