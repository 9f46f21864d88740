"""The images of folders, patterns, lists and standard input, and their order."""

import io
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from sightline import SightlineError
from sightline.inference.inputs import InputImage, absolute_inputs, input_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a.JPG", "z/c.webp", "z/y/d.bmp", "k/e.tif", "notes.txt", ".hidden.png", "k/t.csv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def names(*places: str, stdin: bytes | None = None) -> list[str]:
    return [one.name for one in input_images(places, Counter(), io.BytesIO(stdin) if stdin is not None else None)]


def test_a_folder_yields_its_files_then_its_subfolders(folder: Path) -> None:
    tally: Counter[str] = Counter()
    found = list(input_images([str(folder)], tally))
    assert [one.name for one in found] == ["a.JPG", "b.png", "k/e.tif", "z/c.webp", "z/y/d.bmp"]
    assert all(os.path.samefile(one.path, folder / one.name) for one in found)
    assert tally == {".txt": 1, "hidden": 1, ".csv": 1}


def test_a_link_back_to_the_folder_is_entered_once(folder: Path) -> None:
    (folder / "z" / "again").symlink_to(folder, target_is_directory=True)
    assert len(names(str(folder))) == 5


def test_names_are_relative_for_one_input_and_paths_for_several(folder: Path) -> None:
    assert names("in/b.png") == ["b.png"]
    assert names("in/b.png", "in/z") == ["in/b.png", "in/z/c.webp", "in/z/y/d.bmp"]


def test_patterns_are_sorted_and_match_images_only(folder: Path) -> None:
    assert names("in/*") == ["in/a.JPG", "in/b.png"]
    assert names("in/**/*.[bw]*") == ["in/z/c.webp", "in/z/y/d.bmp"]


def test_an_existing_name_with_brackets_is_not_a_pattern(folder: Path) -> None:
    (folder / "shot[1].png").touch()
    assert names("in/shot[1].png") == ["shot[1].png"]
    (folder / "new[2]").mkdir()
    (folder / "new[2]" / "p.png").touch()
    assert names("in/new[2]") == ["p.png"]


def test_lists_and_standard_input_are_used_unchanged(folder: Path) -> None:
    odd = os.fsdecode(b"in/\xff.png")
    lines = b"in/b.png\r\n\nnowhere.png\nin/\xff.png\nspaces here .gif"
    Path("some.txt").write_bytes(lines)
    expected = ["in/b.png", "nowhere.png", odd, "spaces here .gif"]
    Path("bom.txt").write_bytes(b"\xef\xbb\xbf" + lines)  # as Notepad and Excel write it
    assert names("bom.txt") == expected
    assert names("some.txt") == expected and names("-", stdin=lines) == expected
    assert names("some.txt", "in/a.JPG") == [*expected, "in/a.JPG"]


def test_standard_input_is_read_lazily(folder: Path) -> None:
    lines = (b"%d.png\n" % number for number in iter(int, 1))  # never ends
    assert next(input_images(["-"], Counter(), lines)) == InputImage("0.png", "0.png")  # ty: ignore


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere", "does not exist"),
        ("inn", "did you mean 'in'?"),
        ("in/k/t.csv", "not a folder"),
        ("in/*.gif", "no images"),
        ("-", "no images"),
    ],
)
def test_other_inputs_are_errors(folder: Path, place: str, says: str) -> None:
    with pytest.raises(SightlineError) as caught:
        names(place, stdin=b"\n")
    assert says in str(caught.value) and place in str(caught.value)


def test_the_error_for_a_folder_without_images_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(SightlineError, match="no images") as caught:
        names(str(tmp_path))
    assert "1 .txt file" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why", "cure"),
    [
        ("a.JPG\nb.png\n".encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (b"a.JPG\0b.png\0", "find -print0", "tr '\\0' '\\n'"),
    ],
)
def test_lists_with_null_bytes_are_errors_whose_cure_works(folder: Path, content: bytes, why: str, cure: str) -> None:
    Path("my list.txt").write_bytes(content)
    with pytest.raises(SightlineError, match="list of images cannot be read") as caught:
        names("my list.txt")
    assert why in caught.value.why and cure in caught.value.cure
    subprocess.run(caught.value.cure.partition(": ")[2], shell=True, check=True)
    assert names("lines.txt") == ["a.JPG", "b.png"]
    with pytest.raises(SightlineError, match="list of images cannot be read"):
        names("-", stdin=content)


def test_absolute_inputs_differ_between_folders_if_their_images_do(folder: Path, monkeypatch) -> None:
    given = [["in"], ["in/**/*.png"], ["-"], ["list.txt"], [f"{folder}/list.txt"]]
    before = [absolute_inputs(one) for one in given]
    assert before[:2] == [[f"{folder}"], [f"{folder}/**/*.png"]]
    monkeypatch.chdir(folder)
    assert all(old != absolute_inputs(one) for old, one in zip(before, given, strict=True))
    assert absolute_inputs([str(folder)]) == before[0], "an absolute path is the same from each folder"
