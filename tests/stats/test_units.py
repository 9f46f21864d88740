import numpy as np
import pytest

from sightline.stats import units


def test_ids_sums_and_effective_numbers() -> None:
    ids = units.ids_of(["b", "a", "b", "c"])
    assert ids.tolist() == [0, 1, 0, 2]
    assert units.sums(np.array([1.0, 2, 3, 4]), ids).tolist() == [4, 2, 4]
    assert units.sums(np.ones((4, 2)), ids).tolist() == [[2, 2], [1, 1], [1, 1]]
    assert units.count_units(4, ids) == 3 and units.count_units(4, None) == 4
    assert units.effective_units(4, None) == 4 and units.effective_units(6, np.repeat([0, 1, 2], 2)) == 3
    assert units.effective_units(100, np.r_[np.zeros(91, int), np.arange(1, 10)]) == pytest.approx(1.2, abs=0.02)


def test_blocks_are_bounded_and_never_divide_a_group() -> None:
    assert units.blocks(30, None).tolist() == list(range(30))
    ids = np.repeat(np.arange(3000), 4)
    block = units.blocks(len(ids), ids)
    assert block.max() == units.MOST_BLOCKS - 1 and len(np.unique(block)) == units.MOST_BLOCKS
    assert (block.reshape(-1, 4) == block[::4, None]).all()
    assert (block == units.blocks(len(ids), ids)).all()
    assert units.weights_without(np.array([0, 1, 0])).tolist() == [[0, 1, 0], [1, 0, 1]]
