"""How much memory a training takes: of the process on a CPU, of torch's pool on a GPU."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_mb(device: torch.device) -> float:
    """MB in use now: resident, or allocated on the GPU."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmRSS")


def peak_mb(device: torch.device) -> float:
    """The most MB so far, of the process or on the GPU."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmHWM")


def forget_peak(device: torch.device) -> None:
    """`peak_mb` counts from now on, where the system allows it; what the allocator holds unused is given back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        _FORGET.write_text("5", encoding="ascii")


def _status_mb(field: str) -> float:
    """0 where the system has no /proc."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
