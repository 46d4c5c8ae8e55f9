"""A small model with 8-bit weights and its engine, which keeps conversations in buffers, then in slots."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine.engine import Engine
from tests.model.engine.test_engine import make_model


@pytest.fixture(scope="module")
def tokenizer(spm_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(spm_folder)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPTJ8bitForCausalLM:
    return make_model(tokenizer.num_tokens, 256)


@pytest.fixture(params=[False, True], ids=["buffers", "slots"])
def engine(
    request: pytest.FixtureRequest, model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> Iterator[Engine]:
    """No step in slots may fail: the runner would make up for it unseen."""
    engine = Engine(model, tokenizer, max_batch=8, in_slots=request.param)
    yield engine
    engine.close()
    assert "decoding in slots failed" not in [record.getMessage()[:24] for record in caplog.get_records("call")]
