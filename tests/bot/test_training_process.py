"""A training that the bot begins: one at a time, outliving the bot, its end told once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bot import texts_es as es
from bot.handlers_training import verdict
from bot.settings import Settings
from bot.training_process import ASKED, Asked, Ended, TrainingProcess
from tests.bot.telegram_fixture import BotThread
from tests.emulator import Emulator
from training import runs
from training.runs import Run


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
    told = verdict(Ended(asked, "promoted", ("held-out loss falls",), (5.125, 2.3372), ""))
    assert told.startswith(es.TRAINING_ENDED["promoted"])
    assert "5,125 antes, 2,337 ahora" in told
    assert told.endswith("– held-out loss falls")
    assert set(es.TRAINING_ENDED) == {"promoted", "shared", "forced", "refused"}
    assert verdict(Ended(asked, None, (), None, "disk full")) == es.TRAINING_FAILED.format(error="disk full")


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
