"""Keys and values of conversations: inside their budget, the oldest forgotten first, shared beginnings copied."""

import pytest
import torch

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine.cache import KeyValues, Layout, PrefixCache, shared_prefix
from model.engine.engine import Engine
from tests.model.engine.test_engine import GREEDY, random_ids


def test_memory_for_keys_and_values_stays_inside_the_budget(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, cache_mb=1)
    per_token = engine._batch.runner.layout.bytes_per_token
    assert engine._batch.cache.budget_bytes == 2**20
    streams = [engine.submit(random_ids(200, seed=i), GREEDY) for i in range(12)]
    highest = 0
    while any(not stream._ended for stream in streams):
        for stream in streams:
            next(stream, None)
            highest = max(highest, engine.cache_bytes)
    assert per_token * 200 < highest <= 2**20
    engine.close()


def test_the_conversation_used_longest_ago_is_forgotten_first() -> None:
    layout = Layout(1, 1, 4, 64, torch.float32, torch.device("cpu"))
    cache = PrefixCache(layout, 30 * layout.bytes_per_token)
    for start in (100, 200, 300):
        buffer = KeyValues(layout, None)
        buffer.advance(range(start, start + 10))
        cache.give(buffer)
    cache.make_room(5 * layout.bytes_per_token)
    assert [kept.ids[0] for kept in cache.idle] == [200, 300]


def test_a_shared_beginning_is_copied_and_the_other_conversation_keeps_its_own(engine: Engine) -> None:
    stem = random_ids(40, seed=5)
    first = stem + random_ids(80, seed=6)
    list(engine.submit(first, GREEDY))
    other = engine.submit(stem + random_ids(5, seed=7), GREEDY)
    list(other)
    assert other.reused_tokens == 40
    again = engine.submit(first, GREEDY)
    list(again)
    assert again.reused_tokens == len(first) - 1


@pytest.mark.parametrize(("kept", "ids", "common"), [([], [1], 0), ([1, 2], [1, 2], 1), ([1, 2, 3], [1, 2, 4, 5], 2)])
def test_the_last_id_is_never_shared(kept: list[int], ids: list[int], common: int) -> None:
    assert shared_prefix(kept, ids) == common
