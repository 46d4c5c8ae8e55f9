"""A registry, and adapters to put into it; their files need only be told apart here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.registry import Lineage, Registry
from training.registry.entry import PEFT_FILES

Add = Callable[..., str]


def write_files(folder: Path, content: str) -> Path:
    """What looks like a PEFT adapter from outside."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PEFT_FILES[0]).write_text(json.dumps({"peft_type": "LORA"}))
    (folder / PEFT_FILES[1]).write_bytes(content.encode() * 100)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Add:
    """add("a", row_ids=...): an adapter of that id."""

    def put(name: str, **lineage: object) -> str:
        fields = {"base_hash": "b" * 64, "data_hash": "d" * 64, "code_version": "0.1.0", **lineage}
        return registry.add(write_files(tmp_path / "made" / name, name), Lineage(**fields), name)

    return put
