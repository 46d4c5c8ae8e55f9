"""A tiny native model with a tokenizer, and the real command in a subprocess."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, Tokenizer, checkpoint

Run = Callable[..., subprocess.CompletedProcess[str]]

SAMPLING = {"do_sample": True, "temperature": 0.9, "top_p": 0.8, "max_new_tokens": 24}


def write_model(folder: Path, tokenizer_folder: Path, prompt_format: str = "tertulia", n_positions: int = 256) -> Path:
    """Random weights that lie far apart, so that replies differ; 8-bit, with the tokenizer of `tokenizer_folder`."""
    import json

    import torch

    from model.dynamic8 import quantize
    from model.layers import Embedding8bit, Linear8bit

    tokenizer = Tokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(3)
    config = GPTJ8bitConfig(
        vocab_size=tokenizer.num_tokens + 8,
        num_tokens=tokenizer.num_tokens,
        n_positions=n_positions,
        n_embd=32,
        n_layer=2,
        n_head=2,
        rotary_dim=8,
        block_size=64,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        prompt_format=prompt_format,
        architectures=["GPTJ8bitForCausalLM"],
    )
    model = GPTJ8bitForCausalLM(config).eval()
    for module in model.modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            module.store(quantize(torch.randn(module.weight.shape) * 0.3, 64))
    extra: dict[str, bytes | Path] = {path.name: path for path in tokenizer.files()}
    extra["generation_config.json"] = json.dumps(SAMPLING).encode()
    checkpoint.save(folder, config, model.state_dict(), extra_files=extra)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, spm_folder: Path) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "model", spm_folder)


@pytest.fixture(scope="session")
def tiny_plain(tmp_path_factory: pytest.TempPathFactory, bpe_folder: Path) -> Path:
    """In the `plain` format, with GPT-2's kind of tokenizer, as the published models."""
    return write_model(tmp_path_factory.mktemp("tiny_plain") / "model", bpe_folder, "plain")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A clean environment: one thread, no network, its own home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TERTULIA_", "XDG_", "HF_"))}
    return kept | {
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "TERTULIA_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm-256color",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@pytest.fixture
def tertulia(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs `tertulia ARGS` in an empty folder, with `input` on a pipe."""

    def run(*args: object, input: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [sys.executable, "-m", "bot.cli", *map(str, args)],
            input=data,
            capture_output=True,
            cwd=tmp_path,
            env=environment | env,
            timeout=600,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
