import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.insight import figures
from sightline.insight.style import class_colors, lightened, png, png_rgb, short

ODD = ("<script>", "$5 note", "犬", "a\nb\x00", "", "x" * 200)


def test_classes_that_are_taken_for_each_other_stand_together():
    confusion = np.diag([50] * 6)
    for a, b in ((0, 3), (1, 5), (2, 4)):
        confusion[a, b] = confusion[b, a] = 10
    order = figures.class_order(confusion).tolist()
    assert sorted(order) == list(range(6))
    for a, b in ((0, 3), (1, 5), (2, 4)):
        assert abs(order.index(a) - order.index(b)) == 1


def test_without_mistakes_the_order_is_that_of_the_classes():
    assert figures.class_order(np.diag([5, 4, 3])).tolist() == [0, 1, 2]


def test_a_matrix_of_many_classes_keeps_those_with_the_most_mistakes():
    confusion = np.diag(np.full(130, 9))
    confusion[np.arange(0, 120, 2), np.arange(1, 120, 2)] = 1 + np.arange(60)
    shown = figures.shown_classes(confusion)
    assert len(shown) == figures.LARGEST_MATRIX and set(range(20, 120)) == set(shown.tolist())


@pytest.mark.parametrize("count", [2, 26])
def test_confusion_matrices_of_any_size_and_names_are_drawn(count):
    names = [ODD[i % 6] + str(i) for i in range(count)]
    confusion = np.random.default_rng(0).integers(0, 5, (count, count))
    confusion[0] = 0  # a class without images
    figure = figures.draw_confusion(confusion, names)
    assert png(figure).startswith(b"\x89PNG")
    written = sorted(int(text.get_text()) for text in figure.axes[0].texts)
    assert written == (sorted(confusion[confusion > 0].tolist()) if count <= 25 else [])


def test_the_same_figure_is_the_same_file():
    confidence, correct = np.linspace(0.1, 1, 30), np.arange(30) % 3 > 0
    assert png(figures.draw_calibration(confidence, correct)) == png(figures.draw_calibration(confidence, correct))


@pytest.mark.parametrize("count", [2, 20, 30])
def test_maps_name_all_of_few_classes_and_the_hardest_of_many(count):
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
def test_labels_moved_apart_keep_their_columns_and_hardly_overlap(centers):
    points = np.array(centers)
    moved = figures.moved_apart(points, np.full(len(points), 0.5), 0.1, rounds=500)
    np.testing.assert_array_equal(moved[:, 0], points[:, 0])
    for i in range(len(points)):
        for j in range(i):
            assert abs(moved[i, 0] - moved[j, 0]) >= 0.5 or abs(moved[i, 1] - moved[j, 1]) > 0.09


@pytest.mark.parametrize("count", [1, 2, 10, 11, 100])
def test_every_class_has_a_color_of_its_own(count):
    assert len(set(class_colors(count))) == count
    assert lightened("#000000", 1.0) == "#ffffff" and lightened("#204060", 0.0) == "#204060"


def test_short_names_are_one_printable_line():
    assert all(len(short(name)) <= 24 and short(name).isprintable() and short(name) for name in ODD)
    assert short("Bengal") == "Bengal"


@pytest.mark.parametrize("count", [0, 1, 11])
def test_sheets_hold_any_number_of_pictures(count):
    pictures = np.zeros((count, 3, 5, 9), dtype=np.uint8)
    assert png(figures.draw_sheet(list(pictures), ["a\nb"] * count)).startswith(b"\x89PNG")
    assert png_rgb(np.zeros((4, 6, 3), dtype=np.uint8)).startswith(b"\x89PNG")
