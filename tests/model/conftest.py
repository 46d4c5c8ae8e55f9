"""A sound checkpoint, to be damaged."""

import shutil
from pathlib import Path

import pytest

from model.convert import quantize_checkpoint
from tests.published import write_published


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `src` (published .bin) and `native` (its conversion)."""
    folder = tmp_path_factory.mktemp("sound")
    write_published(folder / "src")
    quantize_checkpoint(folder / "src", folder / "native")
    return folder


@pytest.fixture
def native(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound native folder, to be damaged."""
    return Path(shutil.copytree(sound / "native", tmp_path / "native"))
