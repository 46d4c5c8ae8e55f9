"""Each row of a batch has its own adapter, and a cache is read under the adapter it was written under."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine.adapters import Adapter, read_adapter
from model.engine.engine import Engine
from model.gptj import generate_naive
from model.lora import attach, load_adapter
from tests.model.engine.test_engine import GREEDY, ids_of, make_model, random_ids


@pytest.fixture(scope="module")
def folders(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters with random weights, saved by PEFT."""
    made = []
    for seed, targets in (
        (1, ["q_proj", "v_proj"]),
        (2, ["q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"]),
    ):
        tuned = attach(make_model(tokenizer.num_tokens, 256), LoraConfig(r=4, lora_alpha=6, target_modules=targets))
        torch.manual_seed(seed)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        tuned.save_pretrained(folder)
        made.append(folder)
    return made


def test_each_row_of_a_batch_has_its_own_adapter(
    model: GPTJ8bitForCausalLM,
    tokenizer: Tokenizer,
    engine: Engine,
    folders: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With all of them in one batch, each reply is the one that stock PEFT gives with that adapter alone."""
    adapters = [None, *(read_adapter(model, folder) for folder in folders)]
    steps = Counter[Adapter | None]()
    if slots := engine._batch.slot_replies:
        run = slots.decode.run

        def counted(asked: list[int], adapter: Adapter | None) -> torch.Tensor:
            steps[adapter] += len(asked)
            return run(asked, adapter)

        monkeypatch.setattr(slots.decode, "run", counted)
    prompts = [random_ids(8, seed=i) for i in range(6)]
    streams = [engine.submit(prompt, GREEDY, adapter=adapters[i % 3]) for i, prompt in enumerate(prompts)]
    replies = [ids_of(list(stream)) for stream in streams]
    for which, folder in enumerate([None, *folders]):
        alone = make_model(tokenizer.num_tokens, 256)
        oracle = alone if folder is None else load_adapter(alone, folder).eval()
        for i in range(which, 6, 3):
            assert prompts[i] + replies[i] == generate_naive(oracle, prompts[i], 24)
    assert replies[0] != replies[3]
    # The runner gives the first token of a reply, and whatever slots do not serve.
    assert steps == (dict.fromkeys(adapters, 2 * (24 - 1)) if slots else {})


def test_a_cache_is_never_read_under_another_adapter(
    model: GPTJ8bitForCausalLM, engine: Engine, folders: list[Path]
) -> None:
    prompt = random_ids(30)
    plain = ids_of(list(engine.submit(prompt, GREEDY)))
    tuned = engine.submit(prompt, GREEDY, adapter=read_adapter(model, folders[0]))
    assert ids_of(list(tuned)) != plain
    assert tuned.reused_tokens == 0
    again = engine.submit(prompt, GREEDY)
    assert ids_of(list(again)) == plain
    assert again.reused_tokens == len(prompt) - 1
