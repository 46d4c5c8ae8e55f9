"""What a training run is asked, and who looks on while it goes. Without torch."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.curation.curation import CurationOptions
from training.errors import RunError
from training.registry import Registry, base_hash
from training.tuning.presets import TuneOptions
from training.tuning.results import TuneProgress

logger = logging.getLogger(__name__)

ASK_EVERY_S = 0.5


@dataclass(frozen=True)
class RetrainOptions:
    """What a run is made of. What becomes of it (`force`, `share`) may differ from one start to the next."""

    state_dir: Path
    log_url: str
    model: Path  # the native folder of the base
    prompt_format: str | None = None  # None: the model's own
    system: str = ""  # of chats that have none of their own
    device: str = "auto"
    dtype: str = "float32"  # of the contest: that in which the adapter will serve
    data: tuple[Path, ...] = ()  # files beside the log
    use_log: bool = True
    curation: CurationOptions = field(default_factory=CurationOptions)
    tune: TuneOptions = field(default_factory=TuneOptions)
    force: bool = False
    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share < 1:
            raise RunError(f"share is {self.share:g}: expected a number above 0 and below 1, for instance 0.1")
        if not self.use_log and not self.data:
            raise RunError("there is nothing to learn from: give a file with --data, or let the log be read")

    @property
    def runs(self) -> Path:
        return self.state_dir / "runs"

    def registry(self) -> Registry:
        return Registry(self.state_dir / "adapters")

    def of_run(self) -> dict[str, Any]:
        """As JSON values: commands in which they are the same mean the same run."""
        return {
            "model": str(self.model),
            "base": base_hash(self.model),
            "prompt_format": self.prompt_format,
            "use_log": self.use_log,
            "data": [str(path.resolve()) for path in self.data],
            "curation": _as_json(self.curation),
            "tune": _as_json(self.tune),
        }


@dataclass(frozen=True)
class Watch:
    """Whoever looks on: told in sentences and figures, and asked whether the machine may be used now."""

    say: Callable[[str], None] = logger.info
    tuning: Callable[[TuneProgress], None] | None = None
    judging: Callable[[str, int, int], None] | None = None
    may_run: Callable[[], bool] | None = None

    def wait(self) -> None:
        """Until the machine may be used."""
        while self.may_run is not None and not self.may_run():
            time.sleep(ASK_EVERY_S)


def difference(there: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> str:
    """The first option that is not the same, as "rank 8 instead of 4"; empty if all are."""
    for name in there.keys() | wanted.keys():
        old, new = there.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            if found := difference(old, new, f"{prefix}{name}."):
                return found
        elif old != new:
            return f"{prefix}{name} {old!r} instead of {new!r}"
    return ""


def _as_json(options: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(options)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
