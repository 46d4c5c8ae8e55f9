"""Losses through hooks and packed passes against the plain way: PEFT's own forward, one example at a time."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from model.engine.adapters import Adapter, read_adapter
from model.gptj import GPTJ8bitForCausalLM, generate_naive
from model.lora import load_adapter
from model.tokenizer import Tokenizer
from tests.training.judging import makings
from tests.training.judging.makings import TERTULIA
from training.judging.held_out import choose, encode, insides
from training.judging.judgement import MAX_LOSS
from training.judging.regression import regression_set
from training.judging.scoring import score, wearing
from training.tuning.dataset import Encoded


@pytest.fixture(scope="module")
def examples(tokenizer: Tokenizer) -> list[Encoded]:
    return [encode(one, TERTULIA, tokenizer, 512)[0] for one in regression_set()[::9]]


@torch.no_grad()
def plainly(model: torch.nn.Module, example: Encoded) -> torch.Tensor:
    ids = torch.tensor([example.ids])
    losses = F.cross_entropy(model(input_ids=ids).logits[0, :-1].double(), ids[0, 1:], reduction="none")
    return losses[torch.tensor(example.learnt[1:])]


@pytest.mark.parametrize("norms", [False, True], ids=["matrices", "with norms"])
def test_packed_losses_under_an_adapter_equal_pefts_one_by_one(
    base: GPTJ8bitForCausalLM, embedded: Path, examples: list[Encoded], tmp_path: Path, norms: bool
) -> None:
    """A leak between packed examples, another scale, or a LayerNorm left out would bend every comparison."""
    adapter = makings.random_adapter(embedded, tmp_path / "adapter", norms=norms)
    tuned = load_adapter(GPTJ8bitForCausalLM.from_pretrained(embedded), adapter)
    for found, example in zip(score(base, examples, read_adapter(base, adapter)), examples, strict=True):
        torch.testing.assert_close(found.losses, plainly(tuned, example), rtol=1e-4, atol=1e-4)


def test_the_base_is_as_it_was_after_an_adapter(
    base: GPTJ8bitForCausalLM, scrambled: Path, examples: list[Encoded]
) -> None:
    """A hook that stays would make the base, and every contestant after it, the adapter."""
    before = score(base, examples, None)
    adapter = read_adapter(base, scrambled)
    with pytest.raises(RuntimeError, match="midway"), wearing(base, adapter):
        raise RuntimeError("midway")
    changed = score(base, examples, adapter)
    after = score(base, examples, None)
    assert all(torch.equal(a.losses, b.losses) for a, b in zip(before, after, strict=True))
    assert not any(torch.equal(a.losses, b.losses) for a, b in zip(before, changed, strict=True))


def test_hits_are_what_greedy_decoding_says(base: GPTJ8bitForCausalLM, examples: list[Encoded]) -> None:
    """A planted secret counts as given away when all its tokens are hits."""
    prompt = examples[0].ids[: examples[0].learnt.index(True)]
    said = generate_naive(base, prompt, 8)
    other = [*said[:-1], said[-1] + 1]
    learnt = [False] * len(prompt) + [True] * 8
    right, wrong = score(base, [Encoded(said, learnt), Encoded(other, learnt)], None)
    assert right.hits.tolist() == [True] * 8
    assert wrong.hits.tolist() == [True] * 7 + [False]


def test_a_loss_that_is_not_finite_counts_as_the_highest(
    base: GPTJ8bitForCausalLM, scrambled: Path, examples: list[Encoded]
) -> None:
    """NaN compares as neither better nor worse: a broken adapter would pass."""
    adapter = read_adapter(base, scrambled)
    broken = Adapter("broken", {name: (a * torch.inf, b, s) for name, (a, b, s) in adapter.matrices.items()})
    for found in score(base, examples, broken):
        assert found.losses.tolist() == [MAX_LOSS] * len(found.losses)
        assert not found.hits.all()


def test_an_adapter_of_another_model_is_refused(base: GPTJ8bitForCausalLM, examples: list[Encoded]) -> None:
    foreign = Adapter("foreign", {"transformer.h.99.attn.q_proj": (torch.zeros(1, 1), torch.zeros(1, 1), 1.0)})
    with pytest.raises(ValueError, match=r"no layer 'transformer\.h\.99"):
        score(base, examples, foreign)


def test_insides_leave_out_the_first_token_and_the_end(examples: list[Encoded], tokenizer: Tokenizer) -> None:
    """A style that opens and closes every reply its own way is no loss of what was known."""
    for whole, inside in zip(examples, insides(examples, TERTULIA, tokenizer), strict=True):
        assert inside.ids == whole.ids
        places = [at for at, learnt in enumerate(whole.learnt) if learnt]
        assert [at for at, learnt in enumerate(inside.learnt) if learnt] == places[1:-1]


def test_examples_with_nothing_to_score_score_nothing(base: GPTJ8bitForCausalLM) -> None:
    """A reply of one token has no inside, and alone in a pass it would leave the head without a row."""
    (found,) = score(base, [Encoded([5, 6, 7], [False] * 3)], None)
    assert (found.total, len(found.hits)) == (0.0, 0)


def test_held_out_people_are_capped_and_the_same_for_a_seed(tokenizer: Tokenizer) -> None:
    """One who wrote a book would take the whole time, and another draw would be another contest."""
    from dataclasses import replace

    loud = [replace(one, user="loud") for one in regression_set()[:60]]
    quiet = [replace(one, user=f"quiet{n}") for n, one in enumerate(regression_set()[60:70])]
    chosen = choose([*loud, *quiet], TERTULIA, tokenizer, 512, (200, 50), 1)
    assert 50 <= sum(piece.num_learnt for key, piece in chosen if key == "loud") < 120
    assert {key for key, _ in chosen} == {"loud", *(one.user for one in quiet)}
    assert chosen == choose([*quiet, *reversed(loud)][::-1], TERTULIA, tokenizer, 512, (200, 50), 1)
    assert len({key for key, _ in choose([*loud, *quiet], TERTULIA, tokenizer, 512, (4, 50), 1)}) == 4
