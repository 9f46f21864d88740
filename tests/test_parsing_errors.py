"""Arguments that the parser rejects: one message that says what is wrong and what to write."""

from pathlib import Path

import pytest

from sightline.__main__ import run


@pytest.mark.parametrize(
    ("tokens", "what", "cure"),
    [
        (["train"], "a recipe or data are missing", "sightline recipes"),
        (["train", "photos_scratch", "PHOTOS"], "one argument too many", "if this is the data set: --data"),
        (["train", "photos_scratch", "--out"], "the value of --out is missing", "sightline train --help"),
        (["train", "photos_scratch", "--lr", "1"], "there is no option --lr", "--optim.lr"),
        (
            ["train", "photos_scratch", "--name", "a"],
            "there is no option --name",
            "--out runs/NAME; or write a setting",
        ),
        (["train", "photos_scratch", "--name", "a"], "there is no option --name", "with its section: --model.name or"),
        (["resume", "runs/a", "--data", "PHOTOS"], "there is no option --data", "--data.path"),
        (["trian"], 'did you mean "train"?', "sightline --help"),
        (["train", "photos_scratch", "--train.epochs"], "an option without a value means true", "recipes NAME"),
        (["train", "photos_scratch", "--augment.policy", "trival"], "did you mean 'trivial'?", "recipes NAME"),
        (
            ["train", "photos_scratch", "--data", "PHOTOS", "--optim.name", "adamm"],
            "did you mean 'adam'?",
            "use one of",
        ),
    ],
)
def test_each_mistake_has_a_message_and_a_cure(
    tokens: list[str], what: str, cure: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(photos) if token == "PHOTOS" else token for token in tokens]) == 2
    first, _, rest = capsys.readouterr().err.partition("\n")
    assert what.lower() in first.lower() and cure in rest and "COMMAND" not in rest
