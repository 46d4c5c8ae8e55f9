"""Whoever imports a public name of `model` has transformers know the model."""

import subprocess
import sys

FROM_CONFIG = """
from model import GPTJ8bitConfig
from transformers import AutoModelForCausalLM
config = GPTJ8bitConfig(n_embd=64, n_layer=1, n_head=2, rotary_dim=8, vocab_size=32, n_positions=16, block_size=64)
print(type(AutoModelForCausalLM.from_config(config)).__name__)
"""


def test_the_config_alone_brings_its_model() -> None:
    done = subprocess.run([sys.executable, "-c", FROM_CONFIG], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "GPTJ8bitForCausalLM", done.stderr
