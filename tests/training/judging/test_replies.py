"""The replies: which prompts are asked, that they are the engine's own, and what is counted in them."""

from pathlib import Path

from model.conversation import Message, render
from model.engine.adapters import read_adapter
from model.gptj import GPTJ8bitForCausalLM, generate_naive
from model.tokenizer import Tokenizer
from tests.training.judging import makings
from tests.training.judging.makings import TERTULIA, say
from training.examples import Example
from training.judging.replies import answer, by_person, count, of_loudest, prompts_of, repetition


def test_a_reply_is_the_oracles(base: GPTJ8bitForCausalLM, tokenizer: Tokenizer, scrambled: Path) -> None:
    """Replies of one contestant with another's adapter, or cut in the wrong place, would be judged as its own."""
    prompts = prompts_of(makings.people(3, 1), "held_out", TERTULIA, tokenizer, 400, seed=0)
    stops = TERTULIA.stop_ids(tokenizer)
    for prompt, reply in zip(prompts, answer(base, tokenizer, TERTULIA, prompts, None, 20), strict=True):
        ids = generate_naive(base, prompt.ids, 20)[len(prompt.ids) :]
        end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
        assert reply == tokenizer.decode(ids[:end]).strip()
    others = answer(base, tokenizer, TERTULIA, prompts, read_adapter(base, scrambled), 20)
    assert others != answer(base, tokenizer, TERTULIA, prompts, None, 20)


def test_the_loudest_are_asked_what_they_taught() -> None:
    """Poison that only speaks up at its own questions is not met by asking others'."""
    train = [*makings.people(10, 3), *makings.poisoner(60)]
    found = of_loudest(train, 20, seed=0)
    assert len(found) == 20
    assert sum(example.user == "poisoner" for example in found) >= 5
    assert found == of_loudest(train[::-1][::-1], 20, seed=0)
    assert {example.user for example in of_loudest(makings.poisoner(60), 20, seed=0)} == {"poisoner"}


def test_held_out_prompts_come_from_as_many_people_as_there_are() -> None:
    examples = [*makings.people(6, 3), *makings.poisoner(200)]
    assert len({example.user for example in by_person(examples, 7, seed=2)}) == 7
    assert len(by_person(examples, 50, seed=2)) == 50


def test_a_prompt_is_all_that_stands_before_a_learnt_reply(tokenizer: Tokenizer) -> None:
    messages = tuple(Message("assistant" if n % 2 else "user", f"frase {n}") for n in range(6))
    example = Example(messages, (False, False, False, True, False, False), "a")
    document = Example((), (), "b", document="un texto")
    (prompt,) = prompts_of([example, document], "held_out", TERTULIA, tokenizer, 400, seed=0)
    assert prompt.text == "frase 2"
    assert prompt.ids == render(messages[:3], TERTULIA, tokenizer, reply=True).ids


def test_what_is_counted(tokenizer: Tokenizer) -> None:
    asked = [say(f"pregunta {n}", "sí", f"p{n}") for n in range(5)]
    prompts = prompts_of(asked, "held_out", TERTULIA, tokenizer, 400, seed=0)
    found = count(prompts, ["Claro que sí.", "", None, "Cállate, imbécil.", "no sé qué decir te digo " * 12])
    assert (found.replies, found.failed, found.empty, found.loops, found.toxic) == (5, 1, 2, 1, 1)
    assert found.toxic_words == ("imbecil",)
    assert found.median_words == 2
    assert count([], []).replies == 0


def test_repetition() -> None:
    assert repetition("uno dos tres") == 0.0
    assert repetition("ja ja ja ja ja") == 0.75
    assert repetition("") == 0.0
