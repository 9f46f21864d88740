"""Class activation maps over images."""

import numpy as np

from sightline.insight.class_maps import overlay


def test_an_overlay_is_bright_where_the_map_is() -> None:
    image, strength = np.full((3, 8, 12), 200, np.uint8), np.zeros((8, 12))
    strength[-1, -1] = 1.0
    drawn = overlay(image, strength)
    assert drawn.shape == (8, 12, 3) and drawn.dtype == np.uint8
    assert (drawn[:-1, :-1] == 160).all(), "gray and darker where the map is 0"
    red, green, blue = drawn[-1, -1].tolist()
    assert red > 200 and green > 180 and blue < 190, "yellow where it is largest"
