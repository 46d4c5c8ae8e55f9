"""Our GPT-J against transformers' own on the same weights: padding, cache, packing, gradients, generation."""

import pytest
import torch
from transformers import GPTJConfig, GPTJForCausalLM, GPTJForSequenceClassification

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, GPTJ8bitForSequenceClassification
from model.dynamic8 import quantize
from model.gptj import generate_naive
from model.layers import Embedding8bit, Linear8bit

SHAPE = {
    "vocab_size": 320,
    "n_positions": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": 0.5,
}
Models = tuple[GPTJ8bitForCausalLM, GPTJForCausalLM]
TOLERANCE = 1e-4  # float32, at init std 0.5, where logits reach 20


def quantised_copy(source: torch.nn.Module, target: torch.nn.Module, block_size: int) -> None:
    """Quantise the weights of `source` into `target`, and write the dequantised ones back into `source`."""
    for name, module in target.named_modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            original = source.get_submodule(name)
            module.store(quantize(original.weight.data, block_size))
            original.weight.data = module.quantized.dequantize()
    rest = {k: v for k, v in source.state_dict().items() if not k.endswith("weight") or v.dim() == 1 or "score" in k}
    missing = target.load_state_dict(rest, strict=False)
    assert not missing.unexpected_keys


def pair(block_size: int = 256, **overrides: object) -> Models:
    """An 8-bit model and stock transformers GPT-J on its dequantised weights."""
    torch.manual_seed(0)
    stock = GPTJForCausalLM(GPTJConfig(**SHAPE)).eval()
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours = GPTJ8bitForCausalLM(GPTJ8bitConfig(block_size=block_size, **SHAPE, **overrides)).eval()
    quantised_copy(stock, ours, block_size)
    return ours, stock


@pytest.fixture(scope="module")
def models() -> Models:
    return pair()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(1, 320, (2, 20), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_stock_transformers(models: Models, ids: torch.Tensor, attention: str) -> None:
    ours, stock = models
    ours.config._attn_implementation = attention
    difference = (ours(ids).logits - stock(ids).logits).abs().max()
    ours.config._attn_implementation = "sdpa"
    assert difference < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(models: Models, ids: torch.Tensor, side: str) -> None:
    """A row's real tokens see neither the padding nor shifted positions, whichever side it is on."""
    ours, stock = models
    real = slice(6, None) if side == "left" else slice(0, 14)
    mask = torch.zeros_like(ids)
    mask[0, real] = 1
    mask[1] = 1
    padded = ours(ids, attention_mask=mask).logits
    assert (padded[0, real] - stock(ids[:1, real]).logits[0]).abs().max() < TOLERANCE
    assert (padded[1] - stock(ids[1:]).logits[0]).abs().max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("left_padding", [0, 5])
def test_cached_steps_equal_one_pass(models: Models, ids: torch.Tensor, left_padding: int) -> None:
    ours, stock = models
    mask = torch.ones_like(ids)
    mask[:, :left_padding] = 0
    cache = None
    pieces = []
    for start, end in ((0, 9), (9, 10), (10, 16), (16, 20)):
        out = ours(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    whole = stock(ids[:, left_padding:]).logits
    assert (torch.cat(pieces, dim=1)[:, left_padding:] - whole).abs().max() < TOLERANCE


@torch.no_grad()
def test_restarted_positions_keep_packed_examples_apart(models: Models, ids: torch.Tensor) -> None:
    """Packing without cross-talk: no mask, no cache, positions that start again."""
    ours, _ = models
    packed = torch.cat((ids[:1, :8], ids[1:, :12]), dim=1)
    positions = torch.cat((torch.arange(8), torch.arange(12)))[None]
    out = ours(packed, position_ids=positions, use_cache=False).logits
    assert (out[0, :8] - ours(ids[:1, :8]).logits[0]).abs().max() < TOLERANCE
    assert (out[0, 8:] - ours(ids[1:, :12]).logits[0]).abs().max() < TOLERANCE


@torch.no_grad()
def test_generate_equals_stock_and_the_naive_oracle(models: Models, ids: torch.Tensor) -> None:
    ours, stock = models
    kwargs = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mine = ours.generate(ids[:1], attention_mask=torch.ones(1, 20, dtype=torch.long), **kwargs)
    theirs = stock.generate(ids[:1], attention_mask=torch.ones(1, 20, dtype=torch.long), **kwargs)
    assert mine.tolist() == theirs.tolist()
    assert generate_naive(ours, ids[0].tolist(), 12) == mine[0].tolist()


@torch.no_grad()
def test_a_left_padded_batch_generates_what_each_row_generates_alone(models: Models, ids: torch.Tensor) -> None:
    ours, _ = models
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    kwargs = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    together = ours.generate(ids, attention_mask=mask, **kwargs)
    alone = [
        ours.generate(ids[i : i + 1, s:], attention_mask=mask[i : i + 1, s:], **kwargs) for i, s in ((0, 7), (1, 0))
    ]
    assert together[0, 20:].tolist() == alone[0][0, 13:].tolist()
    assert together[1, 20:].tolist() == alone[1][0, 20:].tolist()


@torch.no_grad()
def test_ids_beyond_the_vocabulary_are_never_chosen(ids: torch.Tensor) -> None:
    """50,400 rows, 50,257 tokens: the rest exist as padding and would decode to nothing."""
    ours, stock = pair(num_tokens=300)
    logits = ours(ids).logits
    assert bool(torch.isneginf(logits[..., 300:]).all())
    assert (logits[..., :300] - stock(ids).logits[..., :300]).abs().max() < TOLERANCE


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_the_input_equal_stock(ids: torch.Tensor, checkpointing: bool) -> None:
    ours, stock = pair()
    if checkpointing:
        ours.train()
        ours.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    embeds = ours.transformer.wte(ids)
    grads = []
    for model in (ours, stock):
        x = embeds.detach().clone().requires_grad_()
        model(inputs_embeds=x, labels=ids).loss.backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_bf16_is_close_to_float32(models: Models, ids: torch.Tensor) -> None:
    ours, _ = models
    exact = ours(ids).logits
    rough = ours.to(torch.bfloat16)(ids).logits.float()
    ours.float()
    assert (rough - exact).abs().max() / exact.abs().max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_classifier_pools_the_right_most_real_token(ids: torch.Tensor, side: str) -> None:
    torch.manual_seed(0)
    stock = GPTJForSequenceClassification(GPTJConfig(**SHAPE, num_labels=3, pad_token_id=0)).eval()
    config = GPTJ8bitConfig(block_size=64, **SHAPE, num_labels=3, pad_token_id=0)
    ours = GPTJ8bitForSequenceClassification(config).eval()
    quantised_copy(stock, ours, 64)
    assert ours.score.weight.dtype == torch.float32
    padded = ids.clone()
    real = slice(6, None) if side == "left" else slice(0, 14)
    mask = torch.zeros_like(ids)
    mask[0, real] = 1
    mask[1] = 1
    padded[mask == 0] = 0
    expected = torch.cat((stock(ids[:1, real]).logits, stock(ids[1:]).logits))
    if side == "right":  # padding after the text is never attended, so pad_token_id alone tells where to pool
        assert (ours(padded).logits - expected).abs().max() < TOLERANCE
    assert (ours(padded, attention_mask=mask).logits - expected).abs().max() < TOLERANCE


def test_classifier_trains_its_score_layer(ids: torch.Tensor) -> None:
    model = GPTJ8bitForSequenceClassification(GPTJ8bitConfig(block_size=64, **SHAPE, num_labels=3, pad_token_id=0))
    loss = model(ids, labels=torch.tensor([0, 2])).loss
    loss.backward()
    assert model.score.weight.grad is not None


def test_classifier_cannot_guess_where_rows_end(ids: torch.Tensor) -> None:
    model = GPTJ8bitForSequenceClassification(GPTJ8bitConfig(block_size=64, **SHAPE, num_labels=3))
    with pytest.raises(ValueError, match="attention_mask or a pad_token_id"):
        model(ids)


def test_an_8_bit_table_refuses_to_be_resized(models: Models) -> None:
    with pytest.raises(ValueError, match="num_tokens"):
        models[0].resize_token_embeddings(400)
