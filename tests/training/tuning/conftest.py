"""The tiny model on disk, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tuning.small import save_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, spm_folder: Path) -> Path:
    return save_model(tmp_path_factory.mktemp("tuning") / "tiny", spm_folder)
