"""The folder of a run: what it says of itself after any interruption."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from training import runs
from training.errors import RunError
from training.runs import PHASES, Run

DATELESS = json.dumps({"run_id": "x", "done": [], "options": {}})
AT_NO_DATE = json.dumps({"run_id": "x", "done": [], "options": {}, "began_at": "yesterday"})


def test_a_run_goes_through_its_phases_and_ends_with_the_last(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "runs", {"rank": 8})
    for phase in PHASES:
        assert Run.open(run.folder).next_phase == phase
        run.finish(phase, 2.0)
    again = Run.open(run.folder)
    assert again.next_phase is None
    assert again.ended_at is not None
    assert again.seconds == dict.fromkeys(PHASES, 2.0)
    assert again.options == {"rank": 8}


def test_only_its_owner_can_read_what_people_said(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "runs", {})
    run.keep("counts", {"a": 1})
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in run.folder.iterdir())


def test_doing_the_report_of_an_ended_run_again_changes_nothing_else(tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "runs", {})
    run.decide("promoted", ("better",))
    for phase in PHASES:
        run.finish(phase, 1.0)
    before = run.ended_at
    run.finish("report", 3.0)
    assert (run.ended_at, run.outcome, run.state["done"]) == (before, "promoted", list(PHASES))


def test_a_page_that_is_looked_at_before_the_verdict_does_not_end_the_run(tmp_path: Path) -> None:
    """The run stood as neither ended nor unfinished, and people's text was never erased from it."""
    run = Run.begin(tmp_path / "runs", {})
    for phase in (*PHASES[:4], "report", "promote"):
        run.finish(phase, 1.0)
    assert (run.next_phase, run.ended_at) == ("report", None)
    run.finish("report", 1.0)
    assert run.next_phase is None
    assert run.ended_at is not None


def test_unfinished_are_those_without_an_end(tmp_path: Path) -> None:
    cut, given_up = Run.begin(tmp_path, {}), Run.begin(tmp_path, {})
    given_up.give_up("for this test")
    assert [run.id for run in runs.unfinished(tmp_path)] == [cut.id]


def test_a_run_is_found_by_its_name_or_as_the_newest(tmp_path: Path) -> None:
    first, second = Run.begin(tmp_path, {}), Run.begin(tmp_path, {})
    assert runs.find(tmp_path, None).id == second.id
    assert runs.find(tmp_path, first.id).id == first.id
    with pytest.raises(RunError, match=f"there is no training run nada .*{first.id}"):
        runs.find(tmp_path, "nada")
    with pytest.raises(RunError, match="tertulia train collect"):
        runs.find(tmp_path / "empty", None)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"run_id": "x"}), DATELESS, AT_NO_DATE, b"\xff\xfe"])
def test_a_state_that_cannot_be_read_is_one_line_with_the_next_step(tmp_path: Path, content: str | bytes) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / runs.STATE).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RunError, match="delete the folder and train again") as caught:
        Run.open(folder)
    assert "\n" not in str(caught.value)
    Run.begin(tmp_path, {})
    with pytest.raises(RunError, match=f"{folder / runs.STATE} .*delete the folder"):
        runs.find(tmp_path, None)
