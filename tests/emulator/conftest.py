"""An emulator for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator import Emulator


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator
