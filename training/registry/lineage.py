"""Where an adapter comes from: the base it is for, the data, the code and the options that made it, what was found.

Always: it names rows of the log by their ids, which are never used again, and holds no text and no person's number.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.errors import RegistryError

_OF_THE_BASE = ("config.json", "tokenizer.model", "tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class Lineage:
    """All that is known of how an adapter was made. Mappings hold JSON values."""

    base_hash: str  # `base_hash` of the model it was trained on
    data_hash: str
    code_version: str
    row_ids: tuple[int, ...] = ()  # of the log's messages, those of its parent too
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None  # the adapter that its training began with
    verdict: Mapping[str, Any] = field(default_factory=dict)  # promote: bool, reasons: list of str; empty: not judged
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def refused_for(self) -> tuple[str, ...]:
        """Why the gate did not let it serve; empty if it did, or was not asked."""
        if self.verdict.get("promote", True):
            return ()
        return tuple(self.verdict.get("reasons", ())) or ("no reason was given",)

    def to_json(self) -> dict[str, Any]:
        fields = {**asdict(self), "row_ids": list(self.row_ids), "created_at": self.created_at.isoformat()}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Lineage":
        """Raises ValueError, TypeError or KeyError if these are not the fields of a lineage."""
        values = {name: fields[name] for name in cls.__dataclass_fields__}
        for name in ("hyper_parameters", "metrics", "verdict"):
            if not isinstance(values[name], dict):
                raise TypeError(f"{name} is not an object")
        row_ids = tuple(values["row_ids"])
        if not all(type(row) is int for row in row_ids):
            raise TypeError("row_ids are not integers")
        return cls(**{**values, "row_ids": row_ids, "created_at": datetime.fromisoformat(values["created_at"])})


def base_hash(model_folder: str | Path) -> str:
    """What tells a base from another: a sha256 over those of its weights, config and tokenizer, out of its manifest.

    Raises RegistryError if the folder is no native checkpoint.
    """
    path = Path(model_folder) / "manifest.json"
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        digests = {
            name: entry["sha256"]
            for name, entry in files.items()
            if name in _OF_THE_BASE or name.endswith(".safetensors")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError(
            f"{model_folder} is not a native checkpoint: adapters belong to one; see `tertulia quantize`"
        ) from None
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
