"""Memory on a GPU that a bot uses too; a computer without one trains without any of it."""

from __future__ import annotations

import pytest
import torch

from training.errors import TuneError
from training.gpu_memory import RESERVE_MB, is_out_of_memory, leave_room


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What torch would say and be told on a GPU of 80 GB; the calls themselves need one."""
    told = {"free": 30 * 2**30, "own": 0.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (told["free"], 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: told["own"])
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: told.__setitem__("share", share))
    return told


def test_training_takes_what_is_free_but_for_a_reserve(gpu: dict[str, float]) -> None:
    """Else a reply in the bot is what runs out of memory."""
    leave_room("auto")
    assert gpu["share"] * 80 * 2**30 == pytest.approx(30 * 2**30 - RESERVE_MB * 2**20)


def test_what_the_training_holds_already_counts_as_its_own(gpu: dict[str, float]) -> None:
    """The second phase must not be given less than the first for what the first still has."""
    gpu["free"], gpu["own"] = 10 * 2**30, 20 * 2**30
    leave_room("cuda")
    assert gpu["share"] * 80 * 2**30 == pytest.approx(30 * 2**30 - RESERVE_MB * 2**20)


def test_where_nothing_is_free_it_says_so(gpu: dict[str, float]) -> None:
    gpu["free"] = 500 * 2**20
    with pytest.raises(TuneError, match=r"500 MB are free on the GPU, and 1024 stay free for replies"):
        leave_room("cuda")


def test_on_a_processor_nothing_is_asked_of_a_gpu(gpu: dict[str, float]) -> None:
    gpu["free"] = 0
    leave_room("cpu")
    assert "share" not in gpu


def test_too_little_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
    )
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
