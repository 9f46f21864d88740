import numpy as np

from sightline.insight.preview import denormalized, draw_preview

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalization_is_undone_and_overflow_cut_off():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    shift, scale = np.reshape(MEAN, (1, 3, 1, 1)), np.reshape(STD, (1, 3, 1, 1))
    seen = ((pixels / 255 - shift) / scale).astype(np.float32)
    np.testing.assert_array_equal(denormalized(seen, MEAN, STD), pixels)
    assert denormalized(np.full((1, 3, 1, 1), 99.0), MEAN, STD).min() == 255
    assert denormalized(np.full((1, 3, 1, 1), -99.0), MEAN, STD).max() == 0


def test_the_sheet_shows_every_image_with_its_class():
    images = np.zeros((5, 3, 8, 8), dtype=np.float32)
    figure = draw_preview(images, MEAN, STD, [0, 1, 1, 0, 1], ["cat", "dog"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["cat", "dog", "dog", "cat", "dog"]
    assert all(axes.get_xlabel() == "" for axes in draw_preview(images, MEAN, STD, None, []).axes)
