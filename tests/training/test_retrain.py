"""The whole run on a small random model: its end, its interruptions, its refusals."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.phases
import training.retrain
from bot.activity import Activity
from model.lora import ADAPTER_WEIGHTS
from tests.bot.conftest import write_model
from tests.training.killed_run import begin, run_until, style_file
from training import runs
from training.curation import for_tuning, read_snapshot
from training.dialogues import Chat, DialogueLog, ReplyFacts, sqlite_url
from training.errors import DataError, RegistryBusy, RunError
from training.examples import Preference
from training.judging.canaries import SOURCE
from training.registry.entry import LINEAGE
from training.retrain import preview, retrain, step
from training.retrain_options import RetrainOptions, Watch
from training.run_texts import erase_data
from training.tuning.presets import TuneOptions

FACTS = ReplyFacts("m", None, 1, 1, None, 0.1, {}, "stop")
TUNE = TuneOptions(
    rank=2, epochs=1, batch_size=4, learning_rate=1e-2, row_tokens=256, evaluations=2, patience=0, checkpoint_s=0.0
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, spm_folder: Path) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "model", spm_folder)


def asked(folder: Path, model: Path, **more: object) -> RetrainOptions:
    folder.mkdir(exist_ok=True)
    fields: dict[str, object] = {"data": (style_file(folder / "data.jsonl", 8, 3),), "use_log": False, "force": True}
    fields |= {"tune": TUNE, "device": "cpu", **more}
    return RetrainOptions(folder, sqlite_url(folder / "dialogues.db"), model, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path) -> RetrainOptions:
    """A run that nothing interrupted."""
    options = asked(tmp_path_factory.mktemp("whole"), model)
    assert run_until(options, "") == 0
    return options


def begun(options: RetrainOptions) -> runs.Run:
    """A run that has collected."""
    run = step("collect", None, options)
    assert run is not None
    return run


def only_run(options: RetrainOptions) -> runs.Run:
    (run,) = runs.every(options.runs)
    return run


def weights(options: RetrainOptions) -> bytes:
    run = only_run(options)
    return (options.registry().get(run.id).folder / ADAPTER_WEIGHTS).read_bytes()


def test_a_forced_run_serves_and_leaves_its_trace(whole: RetrainOptions) -> None:
    """Someone must be able to see later that the gate was overridden, and why it had refused."""
    run, registry = only_run(whole), whole.registry()
    assert run.outcome == "forced"
    assert run.next_phase is None
    assert registry.serving().adapter == run.id
    (change,) = registry.changes()
    assert (change.what, change.adapter, change.forced) == ("promote", run.id, True)
    assert set(run.reasons) <= set(change.reasons)
    lineage = registry.get(run.id).lineage
    assert lineage.base_hash == run.options["base"]
    assert lineage.data_hash == run.kept(runs.SNAPSHOT)["data_hash"]
    assert lineage.hyper_parameters["rank"] == 2
    assert set(lineage.metrics["held_out_loss"]) == {"base", "candidate"}
    assert lineage.verdict["promote"] is False


def test_the_page_tells_everything_and_needs_nothing_from_elsewhere(whole: RetrainOptions) -> None:
    page = (only_run(whole).folder / runs.PAGE).read_text(encoding="utf-8")
    for part in ("Before and after", "Loss", "Data", "Replies side by side", "Time and memory", "<svg", "train_turns"):
        assert part in page
    assert page.count('<td class="prompt">') == 20
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert "<script" not in page


def test_what_people_said_is_gone_when_the_run_has_ended(whole: RetrainOptions) -> None:
    """Hashes and figures stay; training data and checkpoints would be a second log that nobody forgets in."""
    folder = only_run(whole).folder
    assert {path.name for path in (folder / runs.DATA).iterdir()} == {"manifest.json"}
    assert not (folder / runs.CHECKPOINTS).exists()


def test_a_run_that_is_killed_in_every_phase_ends_as_one_that_is_not(
    tmp_path: Path, model: Path, whole: RetrainOptions
) -> None:
    """Each kill comes after a phase's work and before it is said to be done: the worst moment."""
    options = asked(tmp_path, model, data=whole.data)
    for moment in ("collect", "validate", "step 2", "tune", "judge", "added", "promote", "report"):
        assert run_until(options, moment) == -9, moment
        if moment not in ("collect", "report"):
            assert only_run(options).next_phase == moment.replace("step 2", "tune").replace("added", "promote")
    assert run_until(options, "") == 0
    run = only_run(options)
    assert run.outcome == "forced"
    assert weights(options) == weights(whole)
    assert [entry.id for entry in options.registry().list()] == [run.id]
    assert [change.what for change in options.registry().changes()] == ["promote"]
    assert run.kept("verdict")["checks"] == only_run(whole).kept("verdict")["checks"]


def test_an_adapter_that_came_into_service_meanwhile_is_judged_against(
    tmp_path: Path, model: Path, whole: RetrainOptions
) -> None:
    """The candidate may be better than what served when it was judged, and worse than what serves now."""
    options = asked(tmp_path, model, data=whole.data)
    assert run_until(options, "judge") == -9
    theirs = only_run(whole).id
    registry, other = options.registry(), whole.registry().get(theirs)
    registry.add(other.folder, other.lineage, theirs)
    registry.promote(theirs, forced=True)
    assert run_until(options, "") == 0
    assert only_run(options).kept("verdict")["against"] == theirs
    assert registry.serving().before == (None, theirs)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, model: Path) -> RetrainOptions:
    """A run that ended without force, beside a damaged adapter of another run."""
    folder = tmp_path_factory.mktemp("refused")
    options = asked(folder, model, force=False, data=(style_file(folder / "few.jsonl", 3, 2),))
    damaged = options.registry().root / "damaged"
    damaged.mkdir(parents=True)
    (damaged / LINEAGE).write_text("{")
    assert run_until(options, "") == 0
    return options


def test_without_force_a_refused_candidate_does_not_serve(refused: RetrainOptions) -> None:
    run = only_run(refused)
    assert run.outcome == "refused"
    assert refused.registry().get(run.id).lineage.refused_for == run.reasons
    assert not [change for change in refused.registry().changes() if not change.forced]


def test_beside_a_damaged_adapter_a_candidate_is_entered_and_can_be_promoted_later(refused: RetrainOptions) -> None:
    """The one must not cost the other's whole training; and of an ended run the registry alone has the adapter."""
    run, registry = only_run(refused), refused.registry()
    assert registry.ids() == (run.id, "damaged")
    assert not (run.folder / runs.ADAPTER).exists()
    step("promote", run.id, replace(refused, force=True))
    assert registry.serving().adapter == run.id
    assert only_run(refused).outcome == "forced"


def test_an_unfinished_run_with_other_options_is_not_mixed_up_with_this_one(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model)
    first = begun(options)
    (first.folder / runs.CHECKPOINTS).mkdir()
    first.finish("validate", 0.0)
    other = replace(options, tune=replace(TUNE, rank=4))
    with pytest.raises(RunError, match=rf"{first.id} is unfinished .*tune\.rank 2 instead of 4.*--new"):
        retrain(other)
    with pytest.raises(RunError, match="other options"):
        step("collect", None, replace(options, data=(style_file(tmp_path / "else.jsonl", 2, 1),)))


def test_a_new_run_gives_the_unfinished_one_up_and_erases_its_text(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model)
    first = begun(options)
    with pytest.raises(DataError):
        retrain(replace(options, data=(empty(tmp_path),)), new=True)
    first = runs.Run.open(first.folder)
    assert first.outcome == runs.GIVEN_UP
    assert "Neptuno" not in "".join(path.read_text() for path in first.folder.rglob("*.json*"))


def test_a_run_whose_giving_up_was_killed_is_not_gone_on_with(tmp_path: Path, model: Path) -> None:
    """Without the log, too: its data are gone, and every training would fail on them."""
    options = asked(tmp_path, model)
    first = begun(options)
    erase_data(first)
    second = begun(options)
    assert second.id != first.id
    assert runs.Run.open(first.folder).outcome == runs.GIVEN_UP


def test_a_run_that_cannot_be_read_is_named_by_whoever_looks_for_one(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model, use_log=True)
    run = begun(options)
    (run.folder / runs.STATE).write_text("{")
    for look in (lambda: begun(options), lambda: step("judge", None, options)):
        with pytest.raises(RunError, match=rf"{run.folder / runs.STATE} cannot be read .*delete the folder"):
            look()


@pytest.mark.parametrize(
    ("has_gpu", "said"),
    [
        (True, "with a smaller --row-tokens, with a budget (--memory-gb) or with TERTULIA_DEVICE=cpu"),
        (False, "begin a --new run with a smaller --row-tokens"),
    ],
)
def test_too_little_memory_is_one_line_with_what_helps(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, said: str
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")

    options = asked(tmp_path, model)
    run = begun(options)
    monkeypatch.setattr(training.retrain, "on_gpu", lambda device: has_gpu)
    monkeypatch.setitem(training.phases.PHASES, "tune", fail)
    with pytest.raises(RunError, match=r"too little memory for tune \(CUDA out of memory\.\)") as caught:
        step("tune", run.id, options)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ((), "there is no pair of a better and a worse reply of people who are trained on"),
        (("held_out",), "there are 1 pairs, none of them of people who are trained on"),
        (("watched",), "there are 1 pairs, none of them of people who are trained on"),
        (("watched", "trained"), None),
    ],
)
def test_pairs_that_nobody_who_is_trained_on_made_are_warned_of(
    tmp_path: Path, model: Path, of: tuple[str, ...], said: str | None
) -> None:
    """The training was refused hours later, or after the wait of a schedule."""
    options = asked(tmp_path, model)
    snapshot = read_snapshot(begun(options).folder / runs.DATA)
    tuned = for_tuning(snapshot)
    sides = {"held_out": snapshot.held_out, "watched": tuned.held_out, "trained": tuned.train}
    pairs = []
    for side in of:
        example = next(one for one in sides[side] if one.source != SOURCE)
        pairs.append(Preference(example.messages[:1], "¡Voto a Neptuno, sí!", "No lo sé.", example.user))
    snapshot = replace(snapshot, preferences=tuple(pairs))
    for method in ("dpo", "sft"):
        warnings = training.phases.measure(snapshot, replace(options, tune=replace(TUNE, method=method)))["warnings"]
        found = [warning for warning in warnings if "--method dpo has nothing to learn" in warning]
        assert len(found) == (said is not None and method == "dpo")
        assert all(str(said) in warning and "--method sft" in warning for warning in found)


def test_a_preview_shows_that_pairs_are_missing(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model, tune=replace(TUNE, method="dpo"))
    assert "--method dpo has nothing to learn" in preview(options).validation["warnings"][-1]


def test_nothing_to_learn_leaves_no_folder_behind(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError) as caught:
        retrain(asked(tmp_path, model, data=(empty(tmp_path),)))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_second_trainer_is_told_who_trains(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model)
    with options.registry().lock(), pytest.raises(RegistryBusy, match="training by process"):
        retrain(options)


def test_steps_alone_come_in_order(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model)
    with pytest.raises(RunError, match="begin with `tertulia train collect`"):
        step("tune", None, options)
    run = begun(options)
    with pytest.raises(RunError, match=f"{run.id} is not ready for judge: `tertulia train tune` comes first"):
        step("judge", run.id, options)
    step("validate", run.id, options)
    assert run.kept("validation")["examples"] > 0


@pytest.mark.parametrize("phase", ["validate", "tune", "judge"])
def test_an_ended_run_is_not_trained_again_and_keeps_its_options(whole: RetrainOptions, phase: str) -> None:
    """Its record said another rank than that of its adapter after `tertulia train tune --rank 4` alone."""
    before = only_run(whole).state
    with pytest.raises(RunError, match="has ended, and its data are erased: begin with `tertulia train collect`"):
        step(phase, None, replace(whole, tune=replace(TUNE, rank=4)))
    assert only_run(whole).state == before


def test_what_curation_dropped_counts_as_seen(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model, use_log=True)
    with DialogueLog(options.log_url) as log:
        log.set_consent(7, True)
        rows = log.append_turn(Chat("telegram", 7), 7, "sí", "no", FACTS)
    snapshot = begun(options).kept(runs.SNAPSHOT)
    assert (snapshot["row_ids"], snapshot["seen_ids"]) == ([], list(rows))


def test_a_preview_writes_nothing(tmp_path: Path, model: Path) -> None:
    options = asked(tmp_path, model)
    shown = preview(options)
    assert shown.counts["train_users"] + shown.counts["held_out_users"] == 8
    assert shown.validation["forecast_s"] > 0
    assert shown.validation["forecast_mb"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"data.jsonl"}


def test_who_withdraws_in_the_middle_of_a_run_ends_it(tmp_path: Path, model: Path) -> None:
    """A run of hours must not go on learning from what somebody took back in its first minute."""
    options = asked(tmp_path, model, data=(), use_log=True)
    with DialogueLog(options.log_url) as log:
        for user_id in range(1, 8):
            log.set_consent(user_id, True)
            text = f"¿Qué sabes de la persona que vive en el número {user_id}?"
            log.append_turn(Chat("telegram", user_id), user_id, text, f"Sé que vive en el {user_id}. ¡Neptuno!", FACTS)
        run = begun(options)
        assert len(run.kept(runs.SNAPSHOT)["row_ids"]) == 14
        log.set_consent(3, False)
    with pytest.raises(RunError, match=f"{run.id} is given up: people have taken back"):
        phases_after_collect(run, options)
    run = runs.Run.open(run.folder)
    assert run.outcome == runs.GIVEN_UP
    assert "Neptuno" not in "".join(path.read_text() for path in run.folder.rglob("*.json*"))


def phases_after_collect(run: runs.Run, options: RetrainOptions) -> None:
    from training.retrain import do

    do("validate", run, options, Watch())


def test_nothing_is_computed_while_somebody_is_answered(tmp_path: Path, model: Path) -> None:
    """A reply that shares the processor with a training step comes late."""
    options = asked(tmp_path, model)
    with Activity(tmp_path).replying():
        process = begin(options)
        until = time.monotonic() + 120
        while not options.runs.is_dir() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(2.0)
        assert only_run(options).next_phase == "collect"
        assert not (only_run(options).folder / runs.DATA).exists()
    process.join(300)
    assert process.exitcode == 0
    assert only_run(options).next_phase is None


def test_a_share_that_is_none_is_refused_before_anything_is_done(tmp_path: Path, model: Path) -> None:
    with pytest.raises(RunError, match="share is 1: expected a number above 0 and below 1"):
        asked(tmp_path, model, share=1.0)


def empty(folder: Path) -> Path:
    path = folder / "empty.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "."}) + "\n")
    return path
