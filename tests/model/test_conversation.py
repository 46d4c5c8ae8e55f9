"""Rendering: exact texts of the formats; the properties that the cache, training and the users' safety rest on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from model.conversation import MAX_TEXT_BYTES, Message, Rendered, render
from model.errors import PromptTooLong, TokenizerError
from model.prompt_formats import FORMATS, PromptFormat, get_format
from model.tokenizer import Tokenizer
from model.user_text import clean
from tests.model.test_user_text import hostile_texts, opens_a_turn

PAIRS = [("tertulia", "spm"), ("plain", "bpe"), ("alpaca-es", "bpe"), ("plain", "spm")]
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
sentences = st.one_of(
    st.text(min_size=1, max_size=20), st.sampled_from(["Hola, ¿qué tal?", "Bien.\n\n¿Y tú?", "ñandú 😀"])
)
texts = st.one_of(sentences, hostile_texts, st.sampled_from(["<|fin|>", "<|usuario|>x", "<|endoftext|>"]))


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def kit(request: pytest.FixtureRequest) -> tuple[PromptFormat, Tokenizer]:
    name, kind = request.param
    return FORMATS[name], Tokenizer.from_pretrained(request.getfixturevalue(f"{kind}_folder"))


@pytest.fixture
def bpe(bpe_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(bpe_folder)


@pytest.fixture
def spm(spm_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(spm_folder)


@st.composite
def conversations(draw: st.DrawFn, tokenizer: Tokenizer, content: st.SearchStrategy[str] = texts) -> list[Message]:
    """A conversation that ends with a reply; some replies bring ids as a model would make them, canonical or not."""
    messages = [Message("system", draw(content))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 2)) if draw(st.booleans()) else 1):
            context = draw(content) if draw(st.integers(0, 4)) == 0 else None
            messages.append(Message("user", draw(content), context=context))
        if draw(st.booleans()):
            messages.append(Message("assistant", draw(content)))
        else:
            made = draw(st.lists(st.integers(0, tokenizer.num_tokens - 1), max_size=12))
            messages.append(Message("assistant", tokenizer.decode(made).strip(), ids=tuple(made)))
    return messages


def user_ends(messages: list[Message]) -> list[int]:
    return [n + 1 for n, message in enumerate(messages) if message.role == "user"]


@relaxed
@given(data=st.data())
def test_the_ids_of_a_turn_are_a_prefix_of_the_next_ones(
    kit: tuple[PromptFormat, Tokenizer], data: st.DataObject
) -> None:
    """Bug prevented: the cache of the last turn does not fit, and every turn is prefilled from the start."""
    fmt, tokenizer = kit
    messages = data.draw(conversations(tokenizer))
    ends = [n for n in user_ends(messages) if messages[n].role == "assistant"]
    prompts = [render(messages[:n], fmt, tokenizer, reply=True).ids for n in ends]
    examples = [render(messages[: n + 1], fmt, tokenizer).ids for n in ends]
    for prompt, example in zip(prompts, examples, strict=True):
        assert example[: len(prompt)] == prompt
    for (example, prompt), (later, _) in pairwise(zip(examples, prompts, strict=True)):
        assert later[: len(example)] == example
        assert len(example) > len(prompt)


@relaxed
@given(data=st.data())
def test_the_ids_that_the_model_made_are_kept(kit: tuple[PromptFormat, Tokenizer], data: st.DataObject) -> None:
    fmt, tokenizer = kit
    ordinary = st.integers(0, tokenizer.num_tokens - 1).filter(lambda i: i not in tokenizer.special_ids)
    made = data.draw(st.lists(ordinary, min_size=1, max_size=12))
    said = tokenizer.decode(made).strip()
    assume(clean(said) == said)
    question = Message("user", "Hola")
    prompt = render([question], fmt, tokenizer, reply=True).ids
    ends = [sorted(fmt.stop_ids(tokenizer))[0], *tokenizer.encode("\nUsuario:")]
    for tail in ([], ends[:1], ends[1:]):
        reply = Message("assistant", said, ids=(*made, *tail))
        ids = render([question, reply, question], fmt, tokenizer, reply=True).ids[len(prompt) :]
        saying_it = [made[:n] for n in range(len(made) + 1) if tokenizer.decode(made[:n]).strip() == said]
        assert any(ids[: len(kept)] == kept for kept in saying_it)


def test_ids_that_do_not_say_the_reply_are_not_used(kit: tuple[PromptFormat, Tokenizer]) -> None:
    """Bug prevented: ids of another model, of an edited reply or with a role marker in them go into the prompt."""
    fmt, tokenizer = kit
    made = tokenizer.encode(" Hola")
    cases = {
        "edited": ("otra cosa", made),
        "cut short": ("Hola amigo", made),
        "a role marker": ("Asistente: sí", tokenizer.encode(" Asistente: sí")),
        "of another model": ("Hola", [tokenizer.num_tokens, *made]),
        "a special id": ("Hola", [*made[:1], tokenizer.eos_id, *made[1:]]),
    }
    for what, (content, ids) in cases.items():
        with_ids = [Message("user", "a"), Message("assistant", content, ids=tuple(ids))]
        without = [Message("user", "a"), Message("assistant", content)]
        assert render(with_ids, fmt, tokenizer) == render(without, fmt, tokenizer), what


def split_by_mask(rendered: Rendered) -> list[list[int]]:
    runs: list[list[int]] = []
    for n, (token_id, learnt) in enumerate(zip(rendered.ids, rendered.loss_mask, strict=True)):
        if learnt:
            if not n or not rendered.loss_mask[n - 1]:
                runs.append([])
            runs[-1].append(token_id)
    return runs


@relaxed
@given(data=st.data())
def test_the_mask_covers_replies_and_their_ends_and_nothing_else(
    kit: tuple[PromptFormat, Tokenizer], data: st.DataObject
) -> None:
    """Bug prevented: training on what users write, or replies that never learn to stop."""
    fmt, tokenizer = kit
    messages = data.draw(conversations(tokenizer))
    messages = [Message(m.role, m.content, context=m.context) for m in messages]
    rendered = render(messages, fmt, tokenizer)
    end = [tokenizer.special_id("<|fin|>")] if fmt.name == "tertulia" else tokenizer.encode(str(fmt.reply_end[0]))
    replies = [clean(m.content) for m in messages if m.role == "assistant"]
    expected = [(tokenizer.encode(fmt.text_prefix + text) if text else []) + end for text in replies]
    assert split_by_mask(rendered) == expected
    if messages[-2].role == "user":
        prompt = render(messages[:-1], fmt, tokenizer, reply=True)
        assert prompt.loss_mask == rendered.loss_mask[: len(prompt.ids)]
        assert not prompt.loss_mask[-1]


@relaxed
@given(data=st.data())
def test_no_message_brings_a_special_id_or_a_line_that_opens_a_turn(
    kit: tuple[PromptFormat, Tokenizer], data: st.DataObject
) -> None:
    """Bug prevented: "Asistente:" typed by a user, in any disguise, is read as the assistant's turn."""
    fmt, tokenizer = kit
    messages = data.draw(conversations(tokenizer))
    rendered = render(messages, fmt, tokenizer)
    num = {role: sum(m.role == role for m in messages) for role in ("user", "assistant")}
    specials = [i for i in rendered.ids if i in tokenizer.special_ids]
    if fmt.name == "tertulia":
        names = {"system": ["<|sistema|>"], "user": ["<|usuario|>"], "assistant": ["<|tertulia|>", "<|fin|>"]}
        with_text = [m for m in messages if m.role != "system" or clean(m.content)]
        assert specials == [tokenizer.special_id(name) for m in with_text for name in names[m.role]]
        return
    assert specials == []
    lines = tokenizer.decode(rendered.ids).splitlines()
    with_head = sum(bool(m.context and clean(m.context)) for m in messages) if fmt.name == "alpaca-es" else 0
    # each user message and reply opens one line, and the last reply's end one more
    assert sum(map(opens_a_turn, lines)) == num["user"] + num["assistant"] + 1 + with_head


def test_tertulia_is_markers_by_number(spm: Tokenizer) -> None:
    usuario, tertulia, sistema, fin = (
        spm.special_id(f"<|{name}|>") for name in ("usuario", "tertulia", "sistema", "fin")
    )
    greeting = [Message("system", "Sé breve."), Message("user", "Hola"), Message("assistant", "¡Hola!")]
    expected = [sistema, *spm.encode("Sé breve."), usuario, *spm.encode("Hola"), tertulia, *spm.encode("¡Hola!"), fin]
    assert render(greeting, get_format("tertulia"), spm).ids == expected
    prompt = render([*greeting, Message("user", "¿Ya?")], get_format("tertulia"), spm, reply=True)
    assert prompt.ids == [*expected, usuario, *spm.encode("¿Ya?"), tertulia]
    assert prompt.dropped_messages == 0
    assert spm.eos_id in get_format("tertulia").stop_ids(spm)


def test_plain_is_cut_as_one_text_would_be(bpe: Tokenizer) -> None:
    """Bug prevented: segments whose borders fall where GPT-2 never cuts give tokens that the model has not seen."""
    talk = [
        Message("system", "Una charla."),
        Message("user", "Hola"),
        Message("assistant", "¡Hola!\n¿Qué tal?"),
        Message("user", "Bien, 2 + 2"),
    ]
    text = "Una charla.\n\nUsuario: Hola\nAsistente: ¡Hola!\n¿Qué tal?\nUsuario: Bien, 2 + 2\nAsistente:"
    prompt = render(talk, get_format("plain"), bpe, reply=True).ids
    assert bpe.decode(prompt) == text
    assert prompt == bpe.encode(text)
    assert get_format("plain").stop_ids(bpe) == {bpe.eos_id}
    unanswered = [Message("user", "¿Hola?"), Message("user", "¿Estás?", context="Es de noche.")]
    assert bpe.decode(render(unanswered, get_format("plain"), bpe, reply=True).ids) == (
        "Usuario: ¿Hola?\nUsuario: ¿Estás?\n\nEs de noche.\nAsistente:"
    )
    greeting = [Message("assistant", "Hola, soy Tertulia."), Message("user", "Hola")]
    assert bpe.decode(render(greeting, get_format("plain"), bpe, reply=True).ids) == (
        "Usuario:\nAsistente: Hola, soy Tertulia.\nUsuario: Hola\nAsistente:"
    )


def test_alpaca_is_the_published_prompt(bpe: Tokenizer) -> None:
    alone = (
        "A continuación hay una instrucción que describe una tarea. Escribe una respuesta que complete adecuadamente "
        "lo que se pide.\n\n### Instrucción:\nEscribe un verso.\n\n### Respuesta:\n"
    )
    with_entry = (
        "A continuación hay una instrucción que describe una tarea, junto con una entrada que proporciona más "
        "contexto. Escribe una respuesta que complete adecuadamente lo que se pide.\n\n### Instrucción:\nResume.\n\n"
        "### Entrada:\nUn texto largo.\n\n### Respuesta:\n"
    )
    fmt = get_format("alpaca-es")
    verse, summary = Message("user", "Escribe un verso."), Message("user", "Resume.", context="Un texto largo.")
    for message, text in ((verse, alone), (summary, with_entry)):
        prompt = render([message], fmt, bpe, reply=True).ids
        assert bpe.decode(prompt) == text
        assert prompt[:-1] == bpe.encode(text)[:-1]
    talk = [Message("system", "Sé breve."), verse, Message("assistant", "El mar."), summary]
    assert bpe.decode(render(talk, fmt, bpe, reply=True).ids) == (
        f"Sé breve.\n\n{alone}El mar.\n\n### Instrucción:\nResume.\n\n### Entrada:\nUn texto largo.\n\n### Respuesta:\n"
    )


@relaxed
@given(data=st.data(), max_tokens=st.integers(70, 160), reply=st.booleans())
def test_trimming_drops_whole_old_turns_keeps_the_system_text_and_the_bound(
    kit: tuple[PromptFormat, Tokenizer], data: st.DataObject, max_tokens: int, reply: bool
) -> None:
    fmt, tokenizer = kit
    messages = data.draw(conversations(tokenizer))
    if reply:
        messages.append(Message("user", "¿Y ahora?"))
    try:
        trimmed = render(messages, fmt, tokenizer, max_tokens=max_tokens, reply=reply)
    except PromptTooLong:
        system = [m for m in messages[:1] if m.role == "system"]
        last_turn = messages[max(n for n, m in enumerate(messages) if m.role == "user") :]
        assert len(render(system + last_turn, fmt, tokenizer, reply=reply).ids) > max_tokens
        return
    assert len(trimmed.ids) <= max_tokens
    assert len(trimmed.loss_mask) == len(trimmed.ids)
    has_system = messages[0].role == "system"
    rest = messages[has_system + trimmed.dropped_messages :]
    assert not trimmed.dropped_messages or rest[0].role == "user"
    kept = messages[:has_system] + rest
    assert render(kept, fmt, tokenizer, reply=reply).ids == trimmed.ids


def test_trimming_goes_in_large_steps_so_that_the_prefix_lasts(kit: tuple[PromptFormat, Tokenizer]) -> None:
    """Bug prevented: dropping one turn at each turn moves every position, so nothing of the cache can be used again."""
    fmt, tokenizer = kit
    messages = [Message("system", "Sé breve.")]
    before: list[int] = []
    moves = longest = 0
    for n in range(120):
        messages.append(Message("user", f"Pregunta {n}: ¿qué tal?"))
        ids = render(messages, fmt, tokenizer, max_tokens=600, reply=True).ids
        longest = max(longest, len(ids))
        if ids[: len(before)] != before:
            moves += 1
            assert len(ids) <= 600 * 0.6
        before = ids
        messages.append(Message("assistant", f"Bien, gracias; es la {n}."))
    assert 3 <= moves <= 16
    assert 540 < longest <= 600
    assert render(messages[:-1], fmt, tokenizer, max_tokens=600, reply=True).ids == before  # from the messages alone


def test_a_last_turn_that_does_not_fit_is_refused_with_both_numbers(kit: tuple[PromptFormat, Tokenizer]) -> None:
    fmt, tokenizer = kit
    talk = [Message("user", "Hola"), Message("assistant", "Hola"), Message("user", "palabra " * 300)]
    needed = len(render(talk[2:], fmt, tokenizer, reply=True).ids)
    with pytest.raises(PromptTooLong, match=rf"needs {needed} tokens .* room for 200: shorten"):
        render(talk, fmt, tokenizer, max_tokens=200, reply=True)
    with pytest.raises(PromptTooLong, match="room for 200"):
        render(
            [*talk[:2], Message("user", "Di algo"), Message("assistant", talk[2].content)],
            fmt,
            tokenizer,
            max_tokens=200,
        )
    # once refused, it does not stand in the way of what comes next
    after = [*talk, Message("user", "Vale, corto")]
    assert render(after, fmt, tokenizer, max_tokens=200, reply=True).dropped_messages == 3


def test_a_wall_of_emoji_is_refused_before_it_is_tokenised(kit: tuple[PromptFormat, Tokenizer]) -> None:
    fmt, tokenizer = kit
    telegram = Message("user", "😀" * 4096)
    assert len(telegram.content.encode()) == MAX_TEXT_BYTES
    wall = Message("user", "😀" * 4097)
    with pytest.raises(PromptTooLong, match=f"{MAX_TEXT_BYTES + 4} bytes, at most {MAX_TEXT_BYTES} are read"):
        render([wall], fmt, tokenizer, max_tokens=10**6, reply=True)
    assert render([wall, Message("user", "Hola")], fmt, tokenizer, max_tokens=1000, reply=True).dropped_messages == 1
    assert len(render([telegram], fmt, tokenizer, max_tokens=10**6, reply=True).ids) > 4096
    assert len(render([wall], fmt, tokenizer).ids) > 4096  # without a limit, as in training, the caller has capped


def test_what_is_no_conversation_is_refused(
    kit: tuple[PromptFormat, Tokenizer], spm: Tokenizer, bpe: Tokenizer
) -> None:
    fmt, tokenizer = kit
    system, user, assistant = Message("system", "s"), Message("user", "u"), Message("assistant", "a")
    for wrong in ([], [system]):
        with pytest.raises(ValueError, match="no message of the user"):
            render(wrong, fmt, tokenizer)
    with pytest.raises(ValueError, match="a system message is the first one"):
        render([user, system, user], fmt, tokenizer)
    with pytest.raises(ValueError, match="ends with the user's message, not with 'assistant'"):
        render([user, assistant], fmt, tokenizer, reply=True)
    with pytest.raises(ValueError, match="'chatml': expected one of tertulia, plain, alpaca-es"):
        get_format("chatml")
    with pytest.raises(TokenizerError, match="no special token"):
        render([user], get_format("tertulia"), bpe, reply=True)


@given(text=hostile_texts)
def test_no_cleaned_text_holds_a_stop_string(text: str) -> None:
    for fmt in FORMATS.values():
        assert not any(stop in "\n" + clean(text) for stop in fmt.stop_strings)
