"""Promotion under a running process: every reply is whole, none is lost, and each says truly what made it."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.adapters import ServedAdapters, forget_taken_back, is_in_share
from bot.loading import Loaded, load
from bot.settings import Settings
from model.engine.adapters import read_adapter
from model.engine.params import SamplingParams
from tests.bot.tiny_adapters import make_adapter, register
from tests.training.conftest import FACTS
from training import runs
from training.dialogues import Chat, DialogueLog
from training.errors import RegistryError
from training.registry import Pointer, Registry
from training.registry.entry import LINEAGE, PEFT_FILES
from training.runs import Run

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12)
QUESTIONS = ("Hola", "¿Qué tal?", "Cuéntame algo de tu pueblo", "¿Y mañana?")
Register = Callable[..., str]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.adapters.EVERY_S", 0.0)


@pytest.fixture
def settings(tiny: Path, tmp_path: Path) -> Settings:
    return Settings(_env_file=None, model=str(tiny), state_dir=tmp_path / "state", threads=1)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings.adapters_dir)


@pytest.fixture
def make(registry: Registry, tiny: Path, tmp_path: Path) -> Register:
    """make("a"): an adapter of that id, which speaks as no other."""

    def put(name: str, **lineage: object) -> str:
        return register(registry, tiny, tmp_path / "made", name, **lineage)

    return put


def say(loaded: Loaded, text: str = "Hola", owner: str = "") -> tuple[str | None, str]:
    reply = loaded.service.reply([], text, GREEDY, owner=owner)
    return reply.adapter, "".join(reply)


def alone(settings: Settings, registry: Registry, name: str | None) -> dict[str, str]:
    """What one adapter says to each question in a process of its own: the oracle."""
    folder = None if name is None else registry.root / name
    loaded = load(settings.model_copy(update={"adapter": folder, "state_dir": settings.state_dir / "elsewhere"}))
    return {text: say(loaded, text)[1] for text in QUESTIONS}


def test_a_promotion_and_a_rollback_reach_a_loaded_model(
    settings: Settings, registry: Registry, make: Register
) -> None:
    make("a")
    make("b")
    said = {name: alone(settings, registry, name)["Hola"] for name in (None, "a", "b")}
    assert len(set(said.values())) == 3
    loaded = load(settings)
    for name, change in (
        (None, lambda: None),
        ("a", lambda: registry.promote("a")),
        ("b", lambda: registry.promote("b")),
        ("a", registry.rollback),
        (None, registry.rollback),
    ):
        change()
        assert say(loaded) == (name, said[name])


def test_a_reply_in_the_making_ends_on_the_adapter_that_it_began_with(
    settings: Settings, registry: Registry, make: Register
) -> None:
    make("a")
    make("b")
    registry.promote("a")
    said = alone(settings, registry, "a")
    loaded = load(settings)
    reply = loaded.service.reply([], "Hola", GREEDY)
    pieces = iter(reply)
    begun = next(pieces)
    registry.promote("b")
    assert say(loaded)[0] == "b"
    registry.rollback()
    registry.delete("b")
    assert begun + "".join(pieces) == said["Hola"]
    assert reply.adapter == "a"


def test_promotions_all_the_time_under_load_give_whole_replies_with_true_names(
    settings: Settings, registry: Registry, make: Register
) -> None:
    """Eight people talk while another adapter is promoted every few hundredths of a second."""
    names = [make(name) for name in ("a", "b", "c")]
    oracle = {name: alone(settings, registry, name) for name in (None, *names)}
    loaded = load(settings)
    stop, replies, failures = threading.Event(), [], []

    def talk(number: int) -> None:
        turn = 0
        while not stop.is_set():
            text = QUESTIONS[(number + turn) % len(QUESTIONS)]
            try:
                replies.append((text, *say(loaded, text, owner=f"{number}/0")))
            except Exception as error:
                failures.append(error)
                return
            turn += 1

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        name = names[turn % 3]
        if turn % 5 == 4:
            registry.rollback()
        elif turn % 7 == 6 and registry.serving().adapter != name:
            registry.start_share(name, 0.5)
        else:
            registry.promote(name)
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(replies) > 30
    assert {adapter for _, adapter, _ in replies} >= set(names)
    for text, adapter, reply in replies:
        assert reply == oracle[adapter][text], f"{adapter} did not say this alone"


def test_a_share_of_the_chats_tries_the_candidate_and_always_the_same_ones(
    settings: Settings, registry: Registry, make: Register
) -> None:
    make("a")
    make("b")
    registry.promote("a")
    registry.start_share("b", 0.3)
    loaded = load(settings)
    assert loaded.adapters is not None
    chosen = {f"{chat}/0": loaded.adapters.of(f"{chat}/0").name for chat in range(200)}
    share = list(chosen.values()).count("b") / 200
    assert 0.2 < share < 0.4
    assert all(loaded.adapters.of(owner).name == name for owner, name in chosen.items())
    assert loaded.adapters.of("").name == "a"  # the terminal chat
    tried = next(owner for owner, name in chosen.items() if name == "b")
    assert say(loaded, owner=tried)[0] == "b"
    registry.stop_share()
    assert say(loaded, owner=tried)[0] == "a"


def test_shares_of_any_size_are_kept_and_another_candidate_gets_other_chats() -> None:
    owners = [f"{chat}/0" for chat in range(5000)]
    for share in (0.01, 0.1, 0.5, 0.9):
        pointer = Pointer(candidate="b", share=share)
        found = [is_in_share(owner, pointer) for owner in owners]
        assert sum(found) / len(owners) == pytest.approx(share, abs=0.02)
    for_c = [is_in_share(owner, Pointer(candidate="c", share=0.9)) for owner in owners]
    assert for_c != found
    smaller = [is_in_share(owner, Pointer(candidate="b", share=0.5)) for owner in owners]
    assert all(large for large, small in zip(found, smaller, strict=True) if small)  # a growing share keeps its chats


def test_an_adapter_for_another_base_is_not_taken_up_and_said_in_one_line(
    settings: Settings, registry: Registry, make: Register, caplog: pytest.LogCaptureFixture
) -> None:
    make("a")
    make("strange", base_hash="5" * 64)
    registry.promote("a")
    loaded = load(settings)
    with caplog.at_level(logging.WARNING):
        registry.promote("strange")
        assert [say(loaded)[0] for _ in range(3)] == ["a"] * 3
    [message] = [record.getMessage() for record in caplog.records]
    assert "strange was made for the base 555555555555" in message
    assert "\n" not in message
    assert loaded.adapters is not None
    assert loaded.adapters.problem == message
    registry.rollback()
    assert say(loaded)[0] == "a"
    assert loaded.adapters.problem is None


@pytest.mark.parametrize("damage", ["weights", "lineage", "pointer", "gone"])
def test_damage_leaves_in_service_what_was(
    settings: Settings, registry: Registry, make: Register, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    make("a")
    make("b")
    registry.promote("a")
    loaded = load(settings)
    assert say(loaded)[0] == "a"
    registry.promote("b")
    folder = registry.root / "b"
    if damage == "weights":
        (folder / PEFT_FILES[1]).write_bytes(b"\0" * 1000)
    elif damage == "lineage":
        (folder / LINEAGE).write_text("{")
    elif damage == "pointer":
        registry.pointer_file.write_text("{")
    else:
        folder.rename(registry.root / "elsewhere")
    assert say(loaded)[0] == "a"
    assert len(caplog.records) == 1
    assert "Traceback" not in caplog.text


def test_what_could_not_be_loaded_is_tried_again(
    settings: Settings, registry: Registry, make: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a")
    registry.promote("a")
    path = registry.root / "a" / PEFT_FILES[1]
    content = path.read_bytes()
    path.write_bytes(b"")
    loaded = load(settings)
    assert say(loaded)[0] is None
    path.write_bytes(content)
    assert say(loaded)[0] is None  # not every second
    monkeypatch.setattr("bot.adapters.AGAIN_S", 0.0)
    assert say(loaded)[0] == "a"


def test_a_retired_adapter_goes_even_if_the_one_before_cannot_be_loaded(
    settings: Settings, registry: Registry, make: Register
) -> None:
    make("a")
    make("b")
    registry.promote("a")
    registry.promote("b")
    loaded = load(settings)
    assert say(loaded)[0] == "b"
    (registry.root / "a" / PEFT_FILES[1]).write_bytes(b"")
    registry.mark_forgotten("b", 1, retire=True)
    assert say(loaded)[0] is None


def test_looking_is_bounded_in_time_and_done_by_one_thread(
    settings: Settings, registry: Registry, make: Register, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread loads, replies go on with what is there: none waits for a slow disk."""
    make("a")
    loaded = load(settings)
    began, go_on = threading.Event(), threading.Event()

    def slow(folder: Path, name: str) -> object:
        began.set()
        assert go_on.wait(30)
        return read_adapter(loaded.model, folder, name)

    assert loaded.adapters is not None
    served = ServedAdapters(registry, loaded.adapters.base, slow)
    registry.promote("a")
    thread = threading.Thread(target=served.of, args=("1/0",))
    thread.start()
    assert began.wait(30)
    assert served.of("2/0") is None
    go_on.set()
    thread.join(30)
    assert served.of("2/0").name == "a"
    monkeypatch.setattr("bot.adapters.EVERY_S", 60.0)
    registry.rollback()
    assert served.of("2/0").name == "a"
    served.refresh()
    assert served.of("2/0") is None


def test_a_pinned_folder_serves_whatever_the_registry_says(
    settings: Settings, registry: Registry, make: Register, tiny: Path, tmp_path: Path
) -> None:
    make("a")
    registry.promote("a")
    folder = make_adapter(tiny, tmp_path / "pinned", 77)
    loaded = load(settings.model_copy(update={"adapter": folder}))
    assert loaded.adapters is None
    assert say(loaded)[0] == str(folder)


@pytest.mark.parametrize("retire", [False, True])
def test_what_is_taken_back_is_marked_and_retired_if_the_settings_say_so(
    settings: Settings, registry: Registry, make: Register, retire: bool
) -> None:
    settings = settings.model_copy(update={"retire_forgotten": retire})
    loaded = load(settings)
    with DialogueLog(settings.log_url()) as log:
        log.set_consent(7, True)
        rows = log.append_turn(Chat("telegram", 7), 7, "hola", "¡Hola!", replace(FACTS))
        make("a", row_ids=rows)
        registry.promote("a")
        assert say(loaded)[0] == "a"
        assert forget_taken_back(settings, log) == []
        log.forget(7)
        assert forget_taken_back(settings, log) == ["a"]
    assert say(loaded)[0] == (None if retire else "a")


def test_a_damaged_adapter_does_not_keep_the_text_of_runs_from_being_erased(
    settings: Settings, registry: Registry, make: Register
) -> None:
    make("a", row_ids=[1])
    (registry.root / "a" / LINEAGE).write_text("{")
    with DialogueLog(settings.log_url()) as log:
        log.set_consent(7, True)
        rows = log.append_turn(Chat("telegram", 7), 7, "hola", "¡Hola!", replace(FACTS))
        run = Run.begin(settings.runs_dir, {})
        run.keep(runs.SNAPSHOT, {"row_ids": list(rows)})
        (run.folder / runs.PAGE).write_text("hola")
        for phase in runs.PHASES:
            run.finish(phase, 1.0)
        log.forget(7)
        with pytest.raises(RegistryError, match="cannot be read"):
            forget_taken_back(settings, log)
    assert not (run.folder / runs.PAGE).exists()
