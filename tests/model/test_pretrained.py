"""The face that a transformers user knows, on native folders: load, override, generate, save, classify, refuse."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, GPTJ8bitForSequenceClassification, Tokenizer, checkpoint
from model.errors import CheckpointError
from tests.model.test_gptj import SHAPE, pair


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native") / "tiny"
    pair()[0].save_pretrained(folder)
    return folder


IDS = torch.tensor([[5, 6, 7, 8]])


@torch.no_grad()
def test_what_is_saved_loads_with_the_same_logits(native: Path) -> None:
    loaded = GPTJ8bitForCausalLM.from_pretrained(native)
    assert torch.equal(loaded(IDS).logits, pair()[0](IDS).logits)
    assert not loaded.training
    assert loaded.transformer.wte.weight.dtype == torch.uint8


@torch.no_grad()
def test_auto_classes_find_it(native: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(native)
    assert isinstance(loaded, GPTJ8bitForCausalLM)
    assert torch.equal(loaded(IDS).logits, pair()[0](IDS).logits)


def test_overrides_reach_config_and_generation(native: Path) -> None:
    model = GPTJ8bitForCausalLM.from_pretrained(native, pad_token_id=7, low_cpu_mem_usage=True, device_map="auto")
    assert model.config.pad_token_id == 7
    assert model.generation_config.pad_token_id == 7


def test_dtype_casts_arithmetic_and_not_storage(native: Path) -> None:
    model = GPTJ8bitForCausalLM.from_pretrained(native, dtype=torch.bfloat16)
    assert model(IDS).logits.dtype == torch.bfloat16
    assert model.lm_head.absmax.dtype == torch.float32
    assert model.lm_head.weight.dtype == torch.uint8


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"load_in_4bit": True}, TypeError, "load_in_4bit"),
        ({"dtype": "int8"}, ValueError, "float32, bfloat16 or float16"),
        ({"device_map": {"a": 0, "b": 1}}, ValueError, "one device"),
    ],
)
def test_unknown_wishes_are_refused(native: Path, kwargs: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        GPTJ8bitForCausalLM.from_pretrained(native, **kwargs)


def test_saving_again_replaces_a_native_folder_and_no_other(native: Path, tmp_path: Path) -> None:
    model = GPTJ8bitForCausalLM.from_pretrained(native)
    model.save_pretrained(tmp_path / "copy")
    model.save_pretrained(tmp_path / "copy")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty"):
        model.save_pretrained(tmp_path / "other")
    assert (tmp_path / "other" / "letters.txt").read_text() == "mine"


def test_saving_gives_the_same_bytes(native: Path, tmp_path: Path) -> None:
    GPTJ8bitForCausalLM.from_pretrained(native).save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (native / "model.safetensors").read_bytes()


@torch.no_grad()
def test_a_classifier_starts_from_a_language_model_and_comes_back_whole(native: Path, tmp_path: Path) -> None:
    model = GPTJ8bitForSequenceClassification.from_pretrained(native, num_labels=3)
    assert model.score.weight.shape == (3, SHAPE["n_embd"])
    model.save_pretrained(tmp_path / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    with pytest.raises(CheckpointError, match="GPTJ8bitForCausalLM"):
        GPTJ8bitForCausalLM.from_pretrained(tmp_path / "classifier")


def test_float_weights_make_a_native_folder_too(tmp_path: Path) -> None:
    """Pretraining keeps its checkpoints in the same format, block_size null."""
    model = GPTJ8bitForCausalLM(GPTJ8bitConfig(**{**SHAPE, "block_size": None}))
    model.save_pretrained(tmp_path / "float")
    loaded = GPTJ8bitForCausalLM.from_pretrained(tmp_path / "float")
    assert loaded.config.block_size is None
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)


def test_the_published_cards_snippet_runs_with_only_names_changed(bpe_folder: Path, tmp_path: Path) -> None:
    files = {path.name: path for path in bpe_folder.iterdir() if path.is_file()}
    size = Tokenizer.from_pretrained(bpe_folder).num_tokens
    eos = Tokenizer.from_pretrained(bpe_folder).eos_id
    shape = SHAPE | {"vocab_size": size + 7, "eos_token_id": eos, "bos_token_id": eos, "initializer_range": 0.02}
    model = GPTJ8bitForCausalLM(GPTJ8bitConfig(**shape, block_size=None, num_tokens=size))
    folder = checkpoint.save(tmp_path / "card", model.config, model.state_dict(), extra_files=files)

    tokenizer = Tokenizer.from_pretrained(folder)
    model = GPTJ8bitForCausalLM.from_pretrained(folder, pad_token_id=tokenizer.eos_token_id, low_cpu_mem_usage=True)
    prompt = tokenizer("El sentido de la vida es", return_tensors="pt")
    out = model.generate(**prompt, max_length=64, do_sample=True)
    text = tokenizer.decode(out[0])

    assert text.startswith("El sentido de la vida es")
    assert out.shape[1] <= 64
