from __future__ import annotations

import torch

from model.gptj import GPTJ8bitForCausalLM, generate_naive
from model.gptj_config import GPTJ8bitConfig
from training.pretrain.network import PretrainGPTJ, Shape
from training.pretrain.probes import greedy

SHAPE = Shape(vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=2, rotary_dim=8)


def loud(shape: Shape = SHAPE, seed: int = 3) -> PretrainGPTJ:
    """A network with weights large enough for any difference to show."""
    network = PretrainGPTJ(shape, seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network.eval()


def real_model(network: PretrainGPTJ) -> GPTJ8bitForCausalLM:
    fields = network.shape.as_dict()
    config = GPTJ8bitConfig(
        **fields, block_size=None, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=1, eos_token_id=2
    )
    model = GPTJ8bitForCausalLM(config).eval()
    model.load_state_dict(network.state_dict(), strict=True)
    return model


@torch.no_grad()
def test_logits_equal_the_model_that_is_served() -> None:
    network = loud()
    ids = torch.randint(0, 97, (3, 40), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(ids), real_model(network)(input_ids=ids).logits, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_packed_documents_do_not_see_each_other() -> None:
    """With an all-ones mask the second document would be read as a continuation of the first."""
    network = loud()
    one, two = torch.randint(0, 97, (1, 9)), torch.randint(0, 97, (1, 14))
    packed = torch.cat((one, two), 1)
    positions = torch.cat((torch.arange(9), torch.arange(14)))[None]
    documents = torch.tensor([[0] * 9 + [1] * 14])
    logits = network(packed, positions, documents)
    torch.testing.assert_close(logits[:, :9], network(one), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[:, 9:], network(two), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_greedy_in_a_batch_equals_the_naive_generation_of_the_served_model() -> None:
    network = loud()
    model = real_model(network)
    prompts = [[5, 9, 11], [7], [3, 1, 4, 1, 5, 9, 2, 6]]
    for prompt, reply in zip(prompts, greedy(network, prompts, 12, end=96), strict=True):
        naive = generate_naive(model, prompt, 12)
        naive = naive[len(prompt) :] if naive[: len(prompt)] == prompt and len(naive) > 12 else naive
        expected = naive[: naive.index(96)] if 96 in naive else naive
        assert reply == expected[: len(reply)]
        assert len(reply) == len(expected)
