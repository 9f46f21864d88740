"""Selection of sampled images: all, a seeded sample, or a list of names."""

import numpy as np
import pytest

from config_toys import configured
from sightline import SightlineError
from sightline.config.resolve import to_yaml
from sightline.runs.sampling import evenly_spread, rows_by_name, sample_rows

NAMES = ("val/0013_sat.jpg", "val/0062_sat.jpg", "val/b/0104.png", "val/c/0104.png")


def test_a_sample_is_sorted_seeded_and_at_most_all_rows() -> None:
    assert sample_rows(3, 5, 0).tolist() == [0, 1, 2]
    one, same, other = sample_rows(1000, 20, 1), sample_rows(1000, 20, 1), sample_rows(1000, 20, 2)
    assert len(set(one.tolist())) == 20 and (np.diff(one) > 0).all()
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_evenly_spread_indices_have_both_ends_and_are_different() -> None:
    assert evenly_spread(100, 6).tolist() == [0, 20, 40, 59, 79, 99]
    assert evenly_spread(2, 6).tolist() == [0, 1] and not len(evenly_spread(0, 6)) and evenly_spread(9, 1)[0] == 0
    assert all(len(set(evenly_spread(n, k).tolist())) == min(n, k) for n in range(40) for k in range(1, 45))


def test_images_are_found_by_path_file_name_or_stem() -> None:
    assert rows_by_name(NAMES, ["0062", "0013_sat"]).tolist() == [1, 0]
    assert rows_by_name(NAMES, ["val/c/0104.png", "0013_sat.jpg"]).tolist() == [3, 0]
    assert rows_by_name(NAMES, []).tolist() == []


def test_full_paths_are_unambiguous_and_repeated_images_are_errors() -> None:
    names = ("1.png", "b/1.png")
    assert rows_by_name(names, ["b/1.png", "1.png"]).tolist() == [1, 0]
    with pytest.raises(SightlineError) as caught:
        rows_by_name(NAMES, ["0013", "0013_sat.jpg"])
    assert "0013_sat.jpg: it is the same image as 0013" in caught.value.why
    with pytest.raises(SightlineError) as caught:
        rows_by_name(NAMES, ["0077"], train=["train/0077_sat.jpg"])
    assert "0077: it is a training image" in caught.value.why


def test_all_unknown_and_ambiguous_names_are_in_one_error() -> None:
    with pytest.raises(SightlineError) as caught:
        rows_by_name(NAMES, ["0014", "0062", "0104", "zebra"])
    why = caught.value.why
    assert "0014: there is no such validation image; did you mean 0104?" in why or "did you mean 0013?" in why
    assert "0104: several images have this name: val/b/0104.png and val/c/0104.png" in why
    assert "zebra: there is no such validation image" in why and "0062" not in why.replace("mean 0062", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("24", 24),
        ("0013", ("0013",)),
        ("0013,0062, 0104", ("0013", "0062", "0104")),
        ("[a, b]", ("a", "b")),
        ("['0013', \"0062\"]", ("0013", "0062")),
    ],
)
def test_the_setting_is_a_number_or_a_list_of_names(text: str, value: object) -> None:
    config = configured({"task": "segment", "train.best_metric": "mean_iou", "report.samples": text})
    assert config.report.samples == value
    assert f"samples: {value}" in to_yaml(config) or isinstance(value, tuple)


@pytest.mark.parametrize("value", ["-5", "2.5", "1e3", "a,,b", "", "true", -1, 2.5, True, [1, 2], [""], None])
def test_invalid_values_of_the_setting_are_one_error(value: object) -> None:
    with pytest.raises(SightlineError, match=r"report\.samples: give a number of images") as caught:
        configured({"task": "segment", "train.best_metric": "mean_iou", "report.samples": value})
    assert "constrained" not in str(caught.value) and "configuration is wrong" not in str(caught.value)


def test_names_are_accepted_for_segmentation_only() -> None:
    with pytest.raises(SightlineError, match="only segmentation accepts their names"):
        configured({"report.samples": "0013"})
