"""Real adapters for the tiny model: each speaks differently, also greedily."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from training.registry import Lineage, Registry, base_hash
from training.registry.entry import PEFT_FILES


def make_adapter(model_folder: Path, out: Path, seed: int) -> Path:
    """A PEFT adapter with large random weights."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in _contents(model_folder, seed).items():
        (out / name).write_bytes(content)
    return out


def register(registry: Registry, model_folder: Path, made: Path, name: str, **lineage: object) -> str:
    """An adapter of the registry, made for the model."""
    fields = {"base_hash": base_hash(model_folder), "data_hash": "d" * 64, "code_version": "0.1.0", **lineage}
    folder = make_adapter(model_folder, made / name, seed=sum(name.encode()))
    return registry.add(folder, Lineage(**fields), name)


@cache
def _contents(model_folder: Path, seed: int) -> dict[str, bytes]:
    import torch
    from peft import LoraConfig

    from model import GPTJ8bitForCausalLM
    from model.lora import attach

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc_in"])
    model = attach(GPTJ8bitForCausalLM.from_pretrained(model_folder), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return {name: (Path(folder) / name).read_bytes() for name in PEFT_FILES}
