"""An adapter's folder: plain PEFT files, lineage.json beside them, and forgotten.json once a row of it is forgotten.

Always: a folder appears whole (the files, their sha256 and the lineage together); what is in it never changes but for
forgotten.json.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model.atomic_folder import sha256, writing
from training.errors import RegistryError
from training.registry.lineage import Lineage
from training.whole_file import write_whole

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
LINEAGE, FORGOTTEN = "lineage.json", "forgotten.json"
BASE = "base"  # the model without any adapter, where an id is asked for
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Forgotten:
    """That people took back what an adapter was trained on."""

    num_rows: int
    since: datetime
    retired: bool = False  # it was taken out of service for that


@dataclass(frozen=True)
class Entry:
    """One adapter of the registry."""

    id: str
    folder: Path
    lineage: Lineage
    files: Mapping[str, str]  # name -> sha256
    forgotten: Forgotten | None = None

    def check_files(self) -> None:
        """Raises RegistryError naming a file that is missing or not what was registered."""
        for name, digest in self.files.items():
            path = self.folder / name
            if not path.is_file() or sha256(path) != digest:
                raise RegistryError(f"{path} is missing or damaged: delete {self.id} and train again")

    def check_base(self, hash_of_base: str) -> None:
        """Raises RegistryError if it was made for another base than the one with this hash."""
        if self.lineage.base_hash != hash_of_base:
            raise RegistryError(
                f"the adapter {self.id} was made for the base {self.lineage.base_hash[:12]}, and the model here is "
                f"{hash_of_base[:12]}: set TERTULIA_MODEL to its base or train one for this model"
            )


def check_id(adapter_id: str) -> str:
    """The id, if it is one. Raises RegistryError."""
    if not _ID.fullmatch(adapter_id) or adapter_id == BASE:
        raise RegistryError(
            f"{adapter_id!r} is no id of an adapter: expected up to 64 letters, digits, '.', '_' or '-', not {BASE!r}"
        )
    return adapter_id


def digests(source: Path) -> dict[str, str]:
    """sha256 of each of the PEFT files in a folder. Raises RegistryError if one is missing."""
    for name in PEFT_FILES:
        if not (source / name).is_file():
            raise RegistryError(f"{source} is not a PEFT adapter: {name} is missing")
    return {name: sha256(source / name) for name in PEFT_FILES}


def write_entry(folder: Path, source: Path, lineage: Lineage) -> None:
    """Copy the PEFT files of `source` with their lineage into the new `folder`, whole or not at all.

    Raises RegistryError if they are no safetensors adapter, CheckpointError if the disk is full or the folder is there.
    """
    fields = {"lineage": lineage.to_json(), "files": digests(source)}
    size = sum((source / name).stat().st_size for name in PEFT_FILES)
    content = json.dumps(fields, ensure_ascii=False, indent=1).encode()
    with writing(folder, size + len(content)) as partial:
        for name in PEFT_FILES:
            (partial / name).write_bytes((source / name).read_bytes())
        (partial / LINEAGE).write_bytes(content)


def copy_files(folder: Path, out: Path) -> None:
    """Write an adapter's PEFT files, without what is ours, into the new folder `out`. Raises CheckpointError."""
    size = sum((folder / name).stat().st_size for name in PEFT_FILES)
    with writing(out, size) as partial:
        for name in PEFT_FILES:
            (partial / name).write_bytes((folder / name).read_bytes())


def read_entry(folder: Path) -> Entry:
    """The adapter in a folder of the registry. Raises RegistryError if its lineage cannot be read."""
    try:
        fields = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))
        files = {str(name): str(digest) for name, digest in fields["files"].items()}
        if set(files) != set(PEFT_FILES):
            raise ValueError(f"files are {sorted(files)}")
        return Entry(folder.name, folder, Lineage.from_json(fields["lineage"]), files, _read_mark(folder / FORGOTTEN))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{folder / LINEAGE} cannot be read ({error}): `tertulia adapters delete {folder.name}` removes the adapter"
        ) from None


def write_mark(entry: Entry, mark: Forgotten) -> None:
    """Mark an adapter as one that saw rows which are forgotten."""
    fields: dict[str, Any] = {"num_rows": mark.num_rows, "since": mark.since.isoformat(), "retired": mark.retired}
    write_whole(entry.folder / FORGOTTEN, json.dumps(fields).encode())


def _read_mark(path: Path) -> Forgotten | None:
    if not path.exists():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Forgotten(int(fields["num_rows"]), datetime.fromisoformat(fields["since"]), bool(fields["retired"]))
