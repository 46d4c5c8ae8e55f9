"""How the tests of bad checkpoints say what must be refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.atomic_folder import sha256
from model.convert import quantize_checkpoint
from model.errors import CheckpointError, ModelError

ROOT = Path(__file__).parents[2]


def refused(action: Callable[[], object], match: str, error: type[ModelError] = CheckpointError) -> str:
    """Run `action`, which must raise one clear line; returns it."""
    with pytest.raises(error, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def convert_refused(src: Path, match: str, **options: Any) -> str:
    """Converting `src` is refused and writes nothing, not even the parents of the target."""
    out = src.parent / "out"
    message = refused(lambda: quantize_checkpoint(src, out / "dst", **options), match)
    assert not out.exists()
    return message


def seal(folder: Path) -> None:
    """Renew the manifest, as someone who damages a checkpoint on purpose would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {
        path.name: {"sha256": sha256(path), "size_bytes": path.stat().st_size}
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
