"""The part that benchmarks share: workers that answer, rivals that take turns, and numbers made of answers."""

import sys
from pathlib import Path

import pytest

from benchmarks.process import median, percentile
from benchmarks.rivals import Rival, compete, ratios
from benchmarks.workers import Worker, WorkerError

ANSWERS = """
import sys
from benchmarks.workers import serve
print("something a library prints when it is imported")
number = 0
def answer(question):
    global number
    print("something a library prints while it works")
    if question["do"] == "build":
        return {"version": "1"}
    number += 1
    if sys.argv[1] == "dies" and number > 1:
        sys.exit("out of luck")
    if sys.argv[1] == "raises":
        raise ValueError("no such thing")
    return {"number": number}
serve(answer)
"""


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.workers.SETTLE_S", 0.0)


def rival(name: str, folder: Path, needs_mib: int = 1) -> Rival:
    return Rival(name, lambda: Worker(name, [sys.executable, "-c", ANSWERS, name], folder / f"{name}.log"), needs_mib)


def test_rivals_take_turns_and_one_in_trouble_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, raises, dies = rival("ours", tmp_path), rival("raises", tmp_path), rival("dies", tmp_path)
    how = compete(ours, [raises, dies], rounds=3, available_mib=10_000)
    assert "all loaded together" in how
    assert [answer["number"] for answer in ours.answers] == [1, 2, 3]
    assert raises.answers == []
    assert raises.trouble == "ValueError: no such thing"
    assert len(dies.answers) == 1
    assert "out of luck" in dies.trouble
    assert ours.answers[0]["at"] < dies.answers[0]["at"] < ours.answers[1]["at"]
    assert "raises is left out" in capsys.readouterr().out


def test_rivals_that_do_not_fit_together_meet_ours_in_pairs_or_one_after_the_other(tmp_path: Path) -> None:
    ours, small, large = (rival(n, tmp_path, mib) for n, mib in (("ours", 100), ("small", 100), ("large", 900)))
    how = compete(ours, [small, large], rounds=1, available_mib=1024 + 900)
    assert how == "small in turns with ours; large between two loadings of ours"
    assert [len(each.answers) for each in (ours, small, large)] == [3, 1, 1]


def test_a_worker_whose_program_is_missing_says_so(tmp_path: Path) -> None:
    worker = Worker("gone", [sys.executable, "-m", "benchmarks.gone"], tmp_path / "log")
    with pytest.raises(WorkerError, match="No module named"):
        worker.ask(do="build")
    worker.close()


def test_ratios_compare_answers_that_are_nearest_in_time() -> None:
    """The machine's bandwidth changes from minute to minute: a ratio over all of a run would compare its moods."""
    ours, other = (Rival(name, lambda: None, 1) for name in ("ours", "other"))  # type: ignore[arg-type,return-value]
    ours.answers = [{"at": 0, "s": 1.0}, {"at": 100, "s": 10.0}]
    other.answers = [{"at": 5, "s": 2.0}, {"at": 104, "s": 20.0}]
    assert ratios(ours, other, "s") == [2.0, 2.0]


def test_median_and_percentile() -> None:
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5
    assert percentile(range(1, 101), 0.95) == 95
    assert percentile([7], 0.95) == 7
