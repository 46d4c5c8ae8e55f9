"""How much memory a training takes: of the process on a CPU, of torch's pool on a GPU."""

from __future__ import annotations

from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def memory_mb(device: torch.device) -> float:
    """MB in use now: resident, or allocated on the GPU."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmRSS")


def peak_mb(device: torch.device) -> float:
    """The most MB so far, of the process or on the GPU."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else _status_mb("VmHWM")


def _status_mb(field: str) -> float:
    """0 where the system has no /proc."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
