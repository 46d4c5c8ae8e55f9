"""A training that the bot begins: one at a time, outliving the bot, its end told once."""

from __future__ import annotations

import ast
import inspect
import json
import os
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot import texts_es as es
from bot.handlers_training import verdict
from bot.settings import Settings
from bot.training_process import ASKED, Asked, Ended, TrainingProcess
from tests.bot.telegram_fixture import BotThread
from tests.emulator import Emulator
from tests.training.judging.figures import BETTER, made
from training import runs
from training.judging import gate
from training.judging.gate import decide
from training.judging.judgement import BASE, IN_SERVICE, Judgement
from training.runs import Run
from training.whole_file import write_whole


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of an empty log: a training ends soon, saying that there is nothing to learn from."""
    monkeypatch.setenv("TERTULIA_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TERTULIA_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    return Settings(_env_file=None, state_dir=tmp_path)


def wait_end(process: TrainingProcess) -> Ended:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (ended := process.ended()) is not None:
            return ended
        time.sleep(0.05)
    raise AssertionError("the training does not end")


def test_one_at_a_time_also_after_the_bot_was_started_again(settings: Settings) -> None:
    """A bot that forgot its training would begin a second one, and never tell how the first ended."""
    first = TrainingProcess(settings)
    assert first.start(42, 7)
    again = TrainingProcess(settings)
    assert not again.start(43)
    assert again.asked() == Asked(42, 7, again.asked().at)  # type: ignore[union-attr]
    ended = wait_end(again)
    assert (ended.asked.chat_id, ended.outcome) == (42, None)
    assert "nothing is left to train on" in ended.error
    assert not again.start(43), "its end was not told yet"
    again.told()
    assert first.ended() is None
    assert first._process is not None
    first._process.wait()  # a zombie is reaped by who began it, at its next look
    assert again.start(43)
    wait_end(again)


def test_a_killed_training_is_told_as_such(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    process = TrainingProcess(settings)
    assert process.start(42)
    assert process._process is not None
    process._process.kill()
    assert wait_end(process).error == "it was killed"


def test_the_end_of_an_earlier_run_is_not_taken_for_this_ones(settings: Settings) -> None:
    earlier = Run.begin(settings.runs_dir, {})
    earlier.decide("promoted", ())
    for phase in runs.PHASES:
        earlier.finish(phase, 0.0)
    process = TrainingProcess(settings)
    assert process.start(42)
    assert wait_end(process).outcome is None


def test_an_unreadable_note_of_who_asked_does_not_stop_the_bot(settings: Settings) -> None:
    (settings.state_dir / ASKED).write_text("{")
    assert TrainingProcess(settings).ended() is None


def test_the_verdict_is_told_in_spanish_with_the_figures() -> None:
    asked = Asked(42, 0, "")
    told = verdict(Ended(asked, "promoted", {}, (), (5.125, 2.3372), ""))
    assert told.startswith(es.TRAINING_ENDED["promoted"])
    assert "5,125 antes, 2,337 ahora" in told
    assert told.endswith("tertulia train report")
    assert set(es.TRAINING_ENDED) == {"promoted", "shared", "forced", "refused"}
    assert verdict(Ended(asked, None, {}, (), None, "disk full")) == es.TRAINING_FAILED.format(error="disk full")


def judged(settings: Settings, judgement: Judgement, outcome: str, *reasons: str) -> str:
    """What is told of a run that the gate decided like this."""
    asked = Asked(42, 0, datetime.now(UTC).isoformat())
    write_whole(settings.state_dir / ASKED, json.dumps(asdict(asked)).encode())
    found = decide(judgement)
    run = Run.begin(settings.runs_dir, {})
    run.keep("verdict", {**asdict(found), "against": None})
    run.decide(outcome, (*found.reasons, *reasons))
    for phase in runs.PHASES:
        run.finish(phase, 0.0)
    ended = TrainingProcess(settings).ended()
    assert ended is not None
    return verdict(ended)


@pytest.mark.parametrize("outcome", ["refused", "forced"])
def test_what_a_candidate_failed_is_told_in_spanish(settings: Settings, outcome: str) -> None:
    lines = judged(settings, made(people=BETTER[:4], loops=9), outcome).splitlines()
    assert lines == [
        es.TRAINING_ENDED[outcome],
        f"– {es.GATE_REFUSES['people']}",
        f"– {es.GATE_REFUSES['loops']}",
        es.TRAINING_FIGURES,
    ]


def test_of_a_success_one_sentence_is_told_and_what_is_no_rule_stays(settings: Settings) -> None:
    lines = judged(settings, made(), "promoted", "asked for by Ana").splitlines()
    assert lines == [es.TRAINING_ENDED["promoted"], "– asked for by Ana", es.TRAINING_FIGURES]


def test_a_rule_of_another_tertulia_is_told_as_it_says_itself() -> None:
    told = verdict(Ended(Asked(42, 0, ""), "refused", {"rhymes": "It rhymes."}, (), None, ""))
    assert "– It rhymes." in told


@pytest.mark.parametrize("content", ["", "null", "{}", '{"checks": [1]}'])
def test_a_verdict_that_cannot_be_read_is_told_by_the_runs_reasons(settings: Settings, content: str) -> None:
    """It must not end the task that tells all of them."""
    run = Run.begin(settings.runs_dir, {})
    run.decide("refused", ("A tie is refused.",))
    for phase in runs.PHASES:
        run.finish(phase, 0.0)
    (run.folder / "verdict.json").write_text(content)
    asked = Asked(42, 0, run.began_at.isoformat())
    write_whole(settings.state_dir / ASKED, json.dumps(asdict(asked)).encode())
    ended = TrainingProcess(settings).ended()
    assert ended is not None
    assert "– A tie is refused." in verdict(ended)


def test_every_rule_of_the_gate_has_its_spanish() -> None:
    """Names that stand in the gate's source, and those that are put together, by what it decides."""
    written = {
        node.args[0].value
        for node in ast.walk(ast.parse(inspect.getsource(gate)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check"
        if isinstance(node.args[0], ast.Constant)
    }
    served = made()
    replies = {**served.replies, IN_SERVICE: served.replies[BASE]}
    alike = {
        name: tuple(replace(unit, losses={**unit.losses, IN_SERVICE: unit.losses[BASE]}) for unit in units)
        for name, units in vars(served).items()
        if name in ("held_out", "regression", "abuse", "decency")
    }
    served = replace(served, contestants={**served.contestants, IN_SERVICE: "/adapters/b"}, replies=replies, **alike)
    decided = {check.name for judgement in (made(), served) for check in decide(judgement).checks}
    assert {"people", "one_person", "secrets"} <= written
    assert {"loops", "regression_base", "regression_in_service"} <= decided
    assert set(es.GATE_REFUSES) == written | decided


def test_an_administrator_lets_the_bot_learn_and_is_told_the_end(settings: Settings) -> None:
    with Emulator() as telegram:
        ana, eve = telegram.user("Ana"), telegram.user("Eva")
        bot = BotThread(telegram, settings.state_dir, admin_ids=(ana.id,))
        try:
            telegram.say(telegram.private(eve), eve, "/entrenar")
            telegram.say(telegram.private(ana), ana, "/entrenar")
            telegram.say(telegram.private(ana), ana, "/entrenar")
            telegram.wait_for(lambda: len(telegram.sent(telegram.private(ana))) == 3, 120)
            begun, runs_already, ended = (sent.text for sent in telegram.sent(telegram.private(ana)))
            assert (begun, runs_already) == (es.TRAINING_BEGINS, es.TRAINING_RUNS)
            assert "nothing is left to train on" in ended
            (refused,) = telegram.sent(telegram.private(eve))
            assert refused.text == es.ADMIN_ONLY
        finally:
            bot.stop()


def test_a_training_runs_at_the_lowest_priority(settings: Settings) -> None:
    """Beside a reply on the same processor it must be the one that waits."""
    process = TrainingProcess(settings)
    assert process.start(42)
    assert process._process is not None
    seen = 0
    while process._process.poll() is None:
        try:
            seen = max(seen, os.getpriority(os.PRIO_PROCESS, process._process.pid))
        except ProcessLookupError:
            break
        time.sleep(0.01)
    assert seen == 19
