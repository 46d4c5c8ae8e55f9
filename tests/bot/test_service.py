"""The path of every reply, on a real tiny model: rule first, prefix kept, cache re-used, room left, stop strings."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bot import texts_es
from bot.loading import Loaded, load
from bot.settings import Settings
from bot.talk import Talk, derive_seed
from model.conversation import Message, render
from model.engine.params import SamplingParams
from model.errors import PromptTooLong

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12)


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> Loaded:
    return load(Settings(model=str(tiny), threads=1, _env_file=None))


@pytest.fixture(scope="module")
def plain(tiny_plain: Path) -> Loaded:
    return load(Settings(model=str(tiny_plain), threads=1, _env_file=None))


@pytest.fixture
def talk(loaded: Loaded) -> Talk:
    return Talk(loaded.service, replace(loaded.params, seed=5))


def test_a_reply_streams_and_its_ids_stay_in_the_history(loaded: Loaded) -> None:
    reply = loaded.service.reply([], "Hola", GREEDY)
    pieces = list(reply)
    assert len(pieces) > 3
    assert "".join(pieces) == reply.text == reply.text.strip()
    user, answer = reply.messages
    assert user == Message("user", "Hola")
    assert answer.content == reply.text
    assert loaded.tokenizer.decode(answer.ids).strip() == reply.text
    assert reply.finish == "length"


@pytest.mark.parametrize("which", ["loaded", "plain"])
def test_the_next_prompt_begins_with_the_last_one_and_its_reply(which: str, request: pytest.FixtureRequest) -> None:
    it: Loaded = request.getfixturevalue(which)
    service, history = it.service, [Message("system", "Sé breve.")]
    before: list[int] = []
    for text in ("Hola", "¿Cómo estás?", "Adiós"):
        reply = service.reply(history, text, GREEDY)
        "".join(reply)
        ids = render([*history, reply.user], service.format, it.tokenizer, reply=True).ids
        assert ids[: len(before)] == before
        before = ids + list(reply.messages[1].ids or ())
        history += reply.messages
    follow_up = service.engine.submit([*before, before[-1]], GREEDY)
    list(follow_up)
    assert follow_up.reused_tokens == len(before) - 1  # type: ignore[attr-defined]  # the last id was said, never read


def test_the_rule_answers_before_the_model_and_stays_in_the_history(talk: Talk) -> None:
    assert "".join(talk.say("me quiero morir")) == texts_es.SUICIDE
    assert talk.last is not None
    assert talk.last.finish == "rule"
    assert [message.content for message in talk.messages] == ["me quiero morir", texts_es.SUICIDE]
    assert "".join(talk.say("gracias"))


def test_the_rule_reads_the_new_message_only(talk: Talk) -> None:
    "".join(talk.say("me duele la cabeza"))
    assert "".join(talk.say("¿Te gusta leer?")) not in (texts_es.HEALTH, texts_es.HEALTH_QUESTION)


def test_a_stop_string_ends_a_reply_of_the_plain_format(plain: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    free = "".join(plain.service.reply([], "Hola", GREEDY))
    stop = free[4:7]
    assert plain.service.format.stop_strings == ("\nUsuario:", "\nAsistente:")
    monkeypatch.setattr(plain.service, "format", replace(plain.service.format, stop_strings=(stop,)))
    reply = plain.service.reply([], "Hola", GREEDY)
    assert "".join(reply) == free[: free.index(stop)].rstrip()
    assert reply.finish == "stop"


def test_cancel_keeps_what_was_said_and_leaving_early_too(talk: Talk) -> None:
    cancel = threading.Event()
    said = []
    for piece in talk.say("Hola", cancel):
        said.append(piece)
        if len(said) == 2:
            cancel.set()
    assert talk.last is not None
    assert talk.last.finish == "cancelled"
    assert talk.turns[-1][1].content == "".join(said)
    stream = talk.say("¿Y tú?")
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert talk.turns[-1][1].content == first


def test_a_reply_stopped_before_its_first_word_leaves_nothing(talk: Talk) -> None:
    cancel = threading.Event()
    cancel.set()
    assert list(talk.say("Hola", cancel)) == []
    assert talk.messages == []


def test_a_message_longer_than_the_context_is_refused_and_forgotten(talk: Talk) -> None:
    "".join(talk.say("Hola"))
    with pytest.raises(PromptTooLong, match="tokens"):
        talk.say("palabra " * 400)
    with pytest.raises(PromptTooLong, match="bytes"):
        talk.say("palabra " * 40000)
    assert len(talk.turns) == 1


def test_a_long_conversation_goes_on_without_its_beginning(talk: Talk) -> None:
    dropped = []
    for i in range(16):
        "".join(talk.say(f"Cuéntame algo del número {i}, por favor."))
        assert talk.last is not None
        dropped.append(talk.last.dropped_messages)
        assert talk.last.num_prompt_tokens <= 256 - min(24, 64)
    assert dropped[0] == 0
    assert dropped[-1] > 0
    assert dropped == sorted(dropped)
    assert len(set(dropped)) < 9  # in large steps: the cache is of use in between


def test_the_same_seed_gives_the_same_conversation_whatever_was_undone(loaded: Loaded) -> None:
    params = replace(loaded.params, seed=5)
    first, second = Talk(loaded.service, params), Talk(loaded.service, params)
    one = ["".join(first.say(text)) for text in ("Hola", "Hola")]
    "".join(second.say("Hola"))
    "".join(second.say("Otra cosa"))
    assert second.undo() == "Otra cosa"
    assert "".join(second.say("Hola")) == one[1]
    assert one[0] != one[1]
    assert "".join(Talk(loaded.service, replace(params, seed=6)).say("Hola")) != one[0]


def test_repeat_gives_another_reply_to_the_same_message(talk: Talk) -> None:
    assert talk.repeat() is None
    first = "".join(talk.say("Hola"))
    stream = talk.repeat()
    assert stream is not None
    second = "".join(stream)
    assert second != first
    assert [turn[0].content for turn in talk.turns] == ["Hola"]
    assert talk.turns[0][1].content == second
    cancel = threading.Event()
    cancel.set()
    assert list(talk.repeat(cancel) or ()) == []
    assert talk.turns[0][1].content == second  # a repeat that said nothing takes nothing away


def test_repeat_that_cannot_begin_keeps_the_turn(talk: Talk) -> None:
    """A system text set since may leave no room for the message; it was lost with its reply."""
    list(talk.say("Hola"))
    before = list(talk.turns)
    talk.system = "palabra " * 2000
    with pytest.raises(PromptTooLong):
        talk.repeat()
    assert talk.turns == before


def test_system_text_goes_first_and_clear_keeps_it(talk: Talk) -> None:
    talk.system = "Eres poeta."
    "".join(talk.say("Hola"))
    assert talk.messages[0] == Message("system", "Eres poeta.")
    talk.clear()
    assert talk.messages == [Message("system", "Eres poeta.")]
    assert talk.undo() is None


def test_derived_seeds_differ_and_stay() -> None:
    assert derive_seed(None, 1, 0) is None
    assert derive_seed(7, 0, 0) == derive_seed(7, 0, 0)
    seeds = {derive_seed(seed, turn, attempt) for seed in range(5) for turn in range(5) for attempt in range(5)}
    assert len(seeds) == 125
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)


def test_complete_continues_raw_text(loaded: Loaded, plain: Loaded) -> None:
    for it in (loaded, plain):
        pieces = list(it.service.complete("Había una vez", GREEDY))
        assert "".join(piece.text for piece in pieces)
        assert list(it.service.complete("", GREEDY))
        with pytest.raises(PromptTooLong):
            it.service.complete("palabra " * 400, GREEDY)


def test_the_models_own_sampling_numbers_are_read(loaded: Loaded) -> None:
    assert (loaded.params.temperature, loaded.params.top_p, loaded.params.max_new_tokens) == (0.9, 0.8, 24)
    assert loaded.num_parameters == sum(
        weights.numel() for name, weights in loaded.model.state_dict().items() if not name.endswith(("absmax", "code"))
    )
