import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.insight import figures
from sightline.insight.figures import denormalized, draw_preview
from sightline.insight.style import class_colors, lightened, png, png_rgb, short

ODD_NAMES = ("<script>", "$5 note", "犬", "a\nb\x00", "", "x" * 200)
CONES = {  # linear RGB as it is seen without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1)
    "all": np.eye(3).tolist(),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_confused_classes_are_neighbors_in_the_class_order():
    confusion = np.diag([50] * 6)
    for a, b in ((0, 3), (1, 5), (2, 4)):
        confusion[a, b] = confusion[b, a] = 10
    order = figures.class_order(confusion).tolist()
    assert sorted(order) == list(range(6))
    for a, b in ((0, 3), (1, 5), (2, 4)):
        assert abs(order.index(a) - order.index(b)) == 1


def test_without_errors_the_class_order_is_unchanged():
    assert figures.class_order(np.diag([5, 4, 3])).tolist() == [0, 1, 2]


def test_a_confusion_matrix_of_many_classes_shows_those_with_the_most_errors():
    confusion = np.diag(np.full(130, 9))
    confusion[np.arange(0, 120, 2), np.arange(1, 120, 2)] = 1 + np.arange(60)
    shown = figures.shown_classes(confusion)
    assert len(shown) == figures.MAX_ROWS and set(range(20, 120)) == set(shown.tolist())


@pytest.mark.parametrize("count", [2, 26])
def test_confusion_matrices_are_drawn_for_any_size_and_class_names(count):
    names = [ODD_NAMES[i % 6] + str(i) for i in range(count)]
    confusion = np.random.default_rng(0).integers(0, 5, (count, count))
    confusion[0] = 0  # a class without images
    figure = figures.draw_confusion(confusion, names)
    assert png(figure).startswith(b"\x89PNG")
    counts = sorted(int(text.get_text()) for text in figure.axes[0].texts)
    assert counts == (sorted(confusion[confusion > 0].tolist()) if count <= 25 else [])


def test_equal_figures_have_equal_png_bytes():
    confidence, correct = np.linspace(0.1, 1, 30), np.arange(30) % 3 > 0
    assert png(figures.draw_calibration(confidence, correct)) == png(figures.draw_calibration(confidence, correct))


@pytest.mark.parametrize("count", [2, 20, 30])
def test_maps_name_all_of_few_classes_and_the_hardest_of_many_classes(count):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % count
    points = [rng.normal(size=(90, 2)) for _ in range(3)]
    names = [f"class {i}" for i in range(count)]
    hard = list(range(count))[::-1]
    figure = figures.draw_maps(points, ["a", "b", "c"], labels, names, hard)
    expected = names if count <= 20 else names[::-1][: figures.HIGHLIGHTED]
    for axes in figure.axes:
        assert sorted(text.get_text() for text in axes.texts) == sorted(expected)
        assert axes.get_xlim() == figure.axes[0].get_xlim() and axes.get_ylim() == figure.axes[0].get_ylim()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=20))
def test_labels_are_moved_vertically_until_they_do_not_overlap(centers):
    points = np.array(centers)
    moved = figures.without_overlaps(points, np.full(len(points), 0.5), 0.1, rounds=500)
    np.testing.assert_array_equal(moved[:, 0], points[:, 0])
    for i in range(len(points)):
        for j in range(i):
            assert abs(moved[i, 0] - moved[j, 0]) >= 0.5 or abs(moved[i, 1] - moved[j, 1]) > 0.09


@pytest.mark.parametrize("cones", CONES)
def test_colors_differ_for_color_blind_readers(cones):
    rgb = np.array([[int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)] for color in class_colors(12)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(CONES[cones]).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089]).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(12, 1)]
    assert apart.min() > 20


@pytest.mark.parametrize("count", [1, 2, 10, 11, 12, 13, 100])
def test_class_colors_are_distinct(count):
    assert len(set(class_colors(count))) == count
    assert lightened("#000000", 1.0) == "#ffffff" and lightened("#204060", 0.0) == "#204060"


def test_short_names_are_one_printable_line():
    assert all(len(short(name)) <= 24 and short(name).isprintable() and short(name) for name in ODD_NAMES)
    assert short("Bengal") == "Bengal"
    assert short("a" * 24) == "a" * 24 and short("a" * 25) == "a" * 23 + "…"
    assert short("日本" * 6) == "日本" * 6 and short("日本" * 7) == "日本" * 5 + "日…", "each takes two columns"


@pytest.mark.parametrize("count", [0, 1, 11])
def test_image_grids_have_any_number_of_images(count):
    images = np.zeros((count, 3, 5, 9), dtype=np.uint8)
    assert png(figures.draw_image_grid(list(images), ["a\nb"] * count)).startswith(b"\x89PNG")
    assert png_rgb(np.zeros((4, 6, 3), dtype=np.uint8)).startswith(b"\x89PNG")


def test_denormalized_inverts_the_normalization_and_clips():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    shift, scale = np.reshape(MEAN, (1, 3, 1, 1)), np.reshape(STD, (1, 3, 1, 1))
    normalized = ((pixels / 255 - shift) / scale).astype(np.float32)
    np.testing.assert_array_equal(denormalized(normalized, MEAN, STD), pixels)
    assert denormalized(np.full((1, 3, 1, 1), 99.0), MEAN, STD).min() == 255
    assert denormalized(np.full((1, 3, 1, 1), -99.0), MEAN, STD).max() == 0


def test_the_preview_shows_every_image_with_its_class():
    images = np.zeros((5, 3, 8, 8), dtype=np.float32)
    figure = draw_preview(images, MEAN, STD, [0, 1, 1, 0, 1], ["cat", "dog"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["cat", "dog", "dog", "cat", "dog"]
    assert all(axes.get_xlabel() == "" for axes in draw_preview(images, MEAN, STD, None, []).axes)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (3, "3"), (1234, "1234"), (9999.4, "9999.4"), (9999.6, "10k"), (123_456, "123k"), (999_499, "999k"),
     (999_500, "1M"), (3_410_000, "3.4M")],
)  # fmt: skip
def test_counts_fit_into_a_cell(value: float, text: str) -> None:
    assert figures.in_cell(value) == text
