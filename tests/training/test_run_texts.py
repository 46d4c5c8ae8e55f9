"""The text of people in the folders of runs: gone when it is no longer needed, or no longer allowed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from model.conversation import Message
from training import runs
from training.curation import Curated, write_snapshot
from training.examples import Example
from training.registry import Registry
from training.run_texts import erase_data, forget_rows
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
    unfinished = run_with(tmp_path / "runs", (2, 3), ("collect",))
    assert sorted(forget_rows(tmp_path / "runs", taken_back(2))) == sorted([ended.id, unfinished.id])  # type: ignore[arg-type]
    assert says_secret(ended) == says_secret(unfinished) == []
    assert len(says_secret(other)) == 4
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
