"""The text of people in the folders of runs: gone when it is no longer needed, or no longer allowed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from model.conversation import Message
from training import runs
from training.curation import Curated, write_snapshot
from training.examples import Example
from training.registry import Registry
from training.run_texts import CUT, WITHDRAWN, erase_data, forget_rows, give_up
from training.runs import PHASES, Run

SECRET = "zorzal"


def run_with(folder: Path, row_ids: tuple[int, ...], phases: tuple[str, ...]) -> Run:
    """A run that is so far, with a secret in every file that quotes people."""
    run = Run.begin(folder, {})
    spoken = (Message("user", f"¿Un {SECRET}?"), Message("assistant", f"Sí, un {SECRET}."))
    example = Example(spoken, (False, True), "someone", row_ids)
    write_snapshot(Curated((example,), (example,), (), {}), run.folder / runs.DATA)
    run.keep(runs.SNAPSHOT, {"data_hash": "", "counts": {}, "row_ids": list(row_ids)})
    (run.folder / runs.CHECKPOINTS).mkdir()
    (run.folder / runs.CHECKPOINTS / "step-1").write_text("weights")
    for name in (runs.JUDGEMENT, runs.PAGE):
        (run.folder / name).write_text(SECRET)
    for phase in phases:
        run.finish(phase, 1.0)
    return run


def says_secret(run: Run) -> list[str]:
    return [path.name for path in run.folder.rglob("*") if path.is_file() and SECRET in path.read_text()]


def taken_back(*gone: int) -> object:
    return lambda rows: set(rows) & set(gone)


def test_an_ended_run_keeps_only_its_page_and_judgement(tmp_path: Path) -> None:
    run = run_with(tmp_path, (1, 2), PHASES)
    erase_data(run)
    erase_data(run)  # a run that was killed here does it again
    assert sorted(says_secret(run)) == [runs.JUDGEMENT, runs.PAGE]
    assert (run.folder / runs.DATA / "manifest.json").is_file()


def test_what_somebody_takes_back_is_gone_from_every_run_that_had_it(tmp_path: Path) -> None:
    ended, other = run_with(tmp_path / "runs", (1, 2), PHASES), run_with(tmp_path / "runs", (3, 4), PHASES)
    erase_data(ended)
    erase_data(other)
    unfinished = run_with(tmp_path / "runs", (2, 3), ("collect",))
    assert sorted(forget_rows(tmp_path / "runs", taken_back(2))) == sorted([ended.id, unfinished.id])  # type: ignore[arg-type]
    assert says_secret(ended) == says_secret(unfinished) == []
    assert sorted(says_secret(other)) == [runs.JUDGEMENT, runs.PAGE]
    assert Run.open(unfinished.folder).outcome == runs.GIVEN_UP
    assert forget_rows(tmp_path / "runs", taken_back(2)) == []  # type: ignore[arg-type]


def test_a_run_that_a_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    """The bot must not pull the data away from under a trainer, which looks for itself."""
    run = run_with(tmp_path / "runs", (1,), ("collect",))
    with Registry(tmp_path / "adapters").lock():
        assert forget_rows(tmp_path / "runs", taken_back(1)) == []  # type: ignore[arg-type]
    assert Run.open(run.folder).outcome is None
    assert forget_rows(tmp_path / "runs", taken_back(1), is_trainer=True) == [run.id]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [runs.JUDGEMENT, runs.PAGE])
def test_what_a_kill_left_beside_a_page_or_judgement_is_erased(tmp_path: Path, name: str) -> None:
    run = run_with(tmp_path / "runs", (1,), PHASES)
    erase_data(run)
    for quoting in (runs.JUDGEMENT, runs.PAGE):
        (run.folder / quoting).unlink()
    (run.folder / f".{name}.4711").write_text(SECRET)
    assert forget_rows(tmp_path / "runs", taken_back(1)) == [run.id]  # type: ignore[arg-type]
    assert says_secret(run) == []


@pytest.mark.parametrize("left", ["data", ".data.partial"])
def test_what_a_killed_collection_left_is_erased(tmp_path: Path, left: str) -> None:
    """Nobody knows whose text is in it, so nobody could ever take it back."""
    run = Run.begin(tmp_path / "runs", {})
    (run.folder / left).mkdir()
    (run.folder / left / "train.jsonl").write_text(SECRET)

    def lost(rows: Iterable[int]) -> set[int]:
        return set()

    assert forget_rows(tmp_path / "runs", lost, is_trainer=True) == []  # which collects anew
    assert forget_rows(tmp_path / "runs", lost) == [run.id]
    assert says_secret(run) == []


def nothing_lost(rows: Iterable[int]) -> set[int]:
    return set()


@pytest.mark.parametrize("state", ["", "{", "[]", '{"run_id": "x", "done": []}'])
def test_a_run_whose_state_cannot_be_read_keeps_no_other_from_being_forgotten(tmp_path: Path, state: str) -> None:
    """One damaged file made the bot keep what everybody else took back, too."""
    damaged, other = run_with(tmp_path / "runs", (1, 2), PHASES[:4]), run_with(tmp_path / "runs", (2, 3), PHASES)
    (damaged.folder / runs.STATE).write_text(state)
    assert forget_rows(tmp_path / "runs", taken_back(3)) == [other.id]  # type: ignore[arg-type]
    assert len(says_secret(damaged)) == 4, "its rows are known, and may be used"
    assert forget_rows(tmp_path / "runs", taken_back(2)) == [damaged.id]  # type: ignore[arg-type]
    assert says_secret(damaged) == says_secret(other) == []
    assert (damaged.folder / runs.STATE).read_text() == state
    assert damaged.kept(runs.SNAPSHOT)["row_ids"] == [1, 2]
    assert forget_rows(tmp_path / "runs", taken_back(2)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("snapshot", [None, "", "[]", "{}", '{"row_ids": 7}', '{"row_ids": [null]}'])
@pytest.mark.parametrize("is_readable", [True, False])
def test_what_nobody_knows_the_rows_of_is_erased(tmp_path: Path, snapshot: str | None, is_readable: bool) -> None:
    """Whoever takes something back could never be told that it is still in there."""
    run = run_with(tmp_path / "runs", (1,), PHASES[:4])
    (run.folder / f"{runs.SNAPSHOT}.json").unlink()
    if snapshot is not None:
        (run.folder / f"{runs.SNAPSHOT}.json").write_text(snapshot)
    if not is_readable:
        (run.folder / runs.STATE).write_text("{")
    assert forget_rows(tmp_path / "runs", nothing_lost) == [run.id]
    assert says_secret(run) == []


def test_a_damaged_manifest_does_not_keep_the_text_from_being_erased(tmp_path: Path) -> None:
    damaged, other = run_with(tmp_path / "runs", (1,), PHASES), run_with(tmp_path / "runs", (1,), PHASES)
    (damaged.folder / runs.DATA / "manifest.json").write_text("{")
    assert sorted(forget_rows(tmp_path / "runs", taken_back(1))) == sorted([damaged.id, other.id])  # type: ignore[arg-type]
    assert says_secret(damaged) == says_secret(other) == []


class Killed(BaseException):
    """What a kill is to the code: nothing after it happens."""


def die(*args: object, **kwargs: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("what", "name"), [(Run, "give_up"), (shutil, "rmtree"), (Path, "unlink")], ids=["state", "checkpoints", "texts"]
)
def test_a_kill_while_a_run_is_given_up_leaves_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: object, name: str
) -> None:
    """Its people let it all be used, so no row that is lost would bring anybody back to it; and it must not be gone on
    with, half of it missing."""
    run = run_with(tmp_path / "runs", (1,), PHASES[:3])
    with monkeypatch.context() as patch:
        patch.setattr(what, name, die)
        with pytest.raises(Killed):
            give_up(run, "given up for a new run")
    assert Run.open(run.folder).ended_at is None
    assert forget_rows(tmp_path / "runs", nothing_lost) == [run.id]
    assert says_secret(run) == []
    assert not (run.folder / runs.CHECKPOINTS).exists()
    assert (Run.open(run.folder).outcome, Run.open(run.folder).reasons) == (runs.GIVEN_UP, (CUT,))
    assert forget_rows(tmp_path / "runs", nothing_lost) == []


def test_what_is_withdrawn_is_given_up_for_good_though_nothing_of_it_is_left(tmp_path: Path) -> None:
    """Killed after the erasure it stood as unfinished for ever, and every training failed on its missing data."""
    run = run_with(tmp_path / "runs", (1,), ("collect",))
    erase_data(run)
    assert forget_rows(tmp_path / "runs", taken_back(1)) == [run.id]  # type: ignore[arg-type]
    assert Run.open(run.folder).reasons == (WITHDRAWN,)


def test_what_a_kill_left_in_an_ended_run_is_erased_whoever_lets_it_be_used(tmp_path: Path) -> None:
    judged, given_up = (run_with(tmp_path / "runs", (1,), PHASES[:n]) for n in (6, 2))
    given_up.give_up("as it was done once: the state first")
    assert sorted(forget_rows(tmp_path / "runs", nothing_lost)) == sorted([judged.id, given_up.id])
    assert sorted(says_secret(judged)) == [runs.JUDGEMENT, runs.PAGE]
    assert not (judged.folder / runs.CHECKPOINTS).exists()
    assert says_secret(given_up) == []
    assert forget_rows(tmp_path / "runs", nothing_lost) == []


def test_a_run_that_is_killed_in_its_report_still_comes_to_its_verdict(tmp_path: Path) -> None:
    """Its data are erased too, and it is not one that was given up."""
    run = run_with(tmp_path / "runs", (1,), PHASES[:5])
    erase_data(run)
    assert forget_rows(tmp_path / "runs", nothing_lost) == []
    assert Run.open(run.folder).next_phase == "report"


def test_a_run_that_ends_while_it_is_waited_for_keeps_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state was read before the lock was had, and written over with what it was then."""
    run = run_with(tmp_path / "runs", (1,), PHASES[:5])
    lock = Registry.lock

    def end_then_lock(self: Registry, what: str = "training") -> AbstractContextManager[None]:
        run.decide("promoted", ())
        run.finish("report", 1.0)
        return lock(self, what)

    monkeypatch.setattr(Registry, "lock", end_then_lock)
    assert forget_rows(tmp_path / "runs", taken_back(1)) == [run.id]  # type: ignore[arg-type]
    assert Run.open(run.folder).outcome == "promoted"
    assert says_secret(run) == []
