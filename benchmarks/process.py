"""What processes hold and how long things take. Only the standard library."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def seconds(run: Callable[[], object]) -> float:
    """How long `run` takes, once."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def resident_mib(field: str = "VmRSS") -> int:
    """MiB of a field of this process's status: VmRSS (now), VmHWM (the most so far), RssAnon (no mapped files)."""
    return _kib(Path("/proc/self/status"), field) // 1024


def forget_peak() -> None:
    """VmHWM counts from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def available_mib() -> int:
    """MiB that processes can take before the machine is out of memory."""
    return _kib(Path("/proc/meminfo"), "MemAvailable") // 1024


def _kib(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"{path} has no field {field}")
