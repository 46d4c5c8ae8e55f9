"""What was measured survives its file exactly, and a damaged file is named."""

import json
from pathlib import Path

import pytest

from tests.training.judging.figures import made
from training.judging.gate import decide
from training.judging.judgement import JudgeError, Judgement


def test_a_judgement_is_read_as_it_was_written(tmp_path: Path) -> None:
    judgement = made()
    judgement.write(tmp_path / "judgement.json")
    read = Judgement.read(tmp_path / "judgement.json")
    assert read == judgement
    assert decide(read) == decide(judgement)
    assert [path.name for path in tmp_path.iterdir()] == ["judgement.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-30],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "version": 0}),
        lambda text: json.dumps({**json.loads(text), "held_out": [{"key": "a"}]}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "seed"}),
    ],
    ids=["empty", "cut", "no object", "version", "unit", "missing"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "judgement.json"
    made().write(path)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(JudgeError, match=r"judgement\.json cannot be read .*judge again"):
        Judgement.read(path)


def test_losses_are_means_over_tokens() -> None:
    judgement = made(people=[(10, 2.0, 1.0), (30, 4.0, 1.0)])
    assert judgement.loss("base") == pytest.approx((10 * 2 + 30 * 4) / 40)
    assert judgement.loss("candidate") == pytest.approx(1.0)
