"""The sliding window against scoring each token alone with its whole context."""

import math

import pytest
import torch

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM
from training.evaluation import evaluate_text

TEXT = "El niño comió una manzana: ¡qué rica! 🙂 "


@pytest.fixture(scope="module")
def model() -> GPTJ8bitForCausalLM:
    """Over bytes, with large weights: losses lie far apart."""
    torch.manual_seed(0)
    config = GPTJ8bitConfig(
        vocab_size=256, n_positions=64, n_embd=32, n_layer=2, n_head=2, rotary_dim=8, block_size=None
    )
    model = GPTJ8bitForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def encode(text: str) -> list[int]:
    return list(text.encode())


def token_losses(model: GPTJ8bitForCausalLM, ids: list[int], context: int, stride: int) -> list[float]:
    """Token by token: the windows of the docstring, one forward pass each."""
    losses, end = [], 0
    for position in range(1, len(ids)):
        if position >= end:
            end = min(len(ids), context if end == 0 else end + stride)
        begin = max(0, end - context)
        with torch.no_grad():
            logits = model(torch.tensor([ids[begin:position]])).logits[0, -1]
        losses.append(-float(logits.log_softmax(-1)[ids[position]]))
    return losses


@pytest.mark.parametrize(("context", "stride"), [(64, 63), (16, 1), (7, 6), (20, 3)])
@pytest.mark.parametrize("bos_id", [None, 0])
def test_equals_scoring_token_by_token(
    model: GPTJ8bitForCausalLM, context: int, stride: int, bos_id: int | None
) -> None:
    ids = encode(TEXT) if bos_id is None else [bos_id, *encode(TEXT)]
    losses = token_losses(model, ids, context, stride)
    seen: list[tuple[int, int]] = []
    found = evaluate_text(
        model, encode, TEXT, context, stride, bos_id=bos_id, progress=lambda done, total: seen.append((done, total))
    )
    assert found.tokens == len(losses) == len(ids) - 1
    assert found.loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2), rel=1e-9)  # a token is a byte here
    assert seen[-1] == (found.tokens, found.tokens)
    assert seen == sorted(seen)


def test_bits_per_byte_do_not_depend_on_the_vocabulary(model: GPTJ8bitForCausalLM) -> None:
    """A model that knows nothing needs 8 bits a byte, whatever its tokens are."""
    for parameter in model.lm_head.parameters():
        torch.nn.init.zeros_(parameter)
    found = evaluate_text(model, encode, TEXT * 3, 64, 32)
    assert found.bits_per_byte == pytest.approx(8.0)
    assert found.perplexity == pytest.approx(256.0)


def test_too_short_a_text_and_a_wrong_stride_are_refused(model: GPTJ8bitForCausalLM) -> None:
    with pytest.raises(ValueError, match="too short"):
        evaluate_text(model, encode, "a", 8, 4)
    with pytest.raises(ValueError, match="stride is 8"):
        evaluate_text(model, encode, "abc", 8, 8)
