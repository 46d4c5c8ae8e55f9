"""Checkpoints of a training run: written whole or not at all, read only if they are this run's and undamaged.

A checkpoint is a folder step-NNNNNNNN with the adapter, the best adapter so far, the optimizer's state, the run's state
and, written last, manifest.json with every file's sha256 and the run's identity (base, data, arguments). Two are kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from model.atomic_folder import sha256, writing
from model.errors import CheckpointError
from training.errors import TuneError

FORMAT, VERSION = "tertulia-tuning", 1
MANIFEST, STATE = "manifest.json", "state.json"
TENSORS = ("adapter", "best", "optimizer")
KEPT = 2
_PREFIX, _REMOVED = "step-", ".removed-"


@dataclass
class State:
    """Where a run is, but for its tensors. Seconds are of training and evaluation, waiting left out."""

    step: int = 0
    total_steps: int = 0
    epoch_steps: int = 1
    tokens: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out_losses: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    fruitless: int = 0  # evaluations since the best one
    planned: bool = False  # the plan was cut to the time budget
    peak_mb: float = 0.0
    stopped: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    fitted: dict[str, Any] = field(default_factory=dict)  # options chosen for the memory budget, and "said"


@dataclass(frozen=True)
class Checkpoint:
    """A run's whole state; tensors by the names in TENSORS."""

    state: State
    tensors: dict[str, dict[str, Tensor]]


class Checkpoints:
    """The checkpoints of one run in `folder`. `identity`: name -> value of all that its result depends on."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, json.loads(json.dumps(identity))

    def newest(self) -> Checkpoint | None:
        """The last one, None if there is none yet. Raises TuneError saying why it is not taken."""
        found = self._all()
        return self._read(found[-1]) if found else None

    def write(self, checkpoint: Checkpoint) -> None:
        """Raises TuneError if that cannot be; the checkpoints before stay."""
        target = self.folder / f"{_PREFIX}{checkpoint.state.step:08d}"
        files = {f"{name}.safetensors": save(checkpoint.tensors[name]) for name in TENSORS}
        files[STATE] = _json(asdict(checkpoint.state))
        try:
            with writing(target, sum(map(len, files.values())) + 2**16, _ours) as partial:
                for name, content in files.items():
                    (partial / name).write_bytes(content)
                entries = {name: {"sha256": sha256(partial / name), "size_bytes": len(files[name])} for name in files}
                manifest = {"format": FORMAT, "version": VERSION, "identity": self.identity, "files": entries}
                (partial / MANIFEST).write_bytes(_json(manifest))
        except CheckpointError as error:
            before = self._all()
            rest = f"the one of step {_step(before[-1])} stays" if before else "there is none before"
            raise TuneError(
                f"checkpoint of step {checkpoint.state.step}: {error} ({rest}; then run it again)"
            ) from None
        self._remove_old()

    def _remove_old(self) -> None:
        for folder in self._all()[:-KEPT]:  # renamed first: half a folder must not look like a checkpoint
            folder.rename(folder.with_name(_REMOVED + folder.name))
        for pattern in (f"{_REMOVED}*", f".{_PREFIX}*.partial"):  # the latter a killed writer's
            for folder in self.folder.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{_PREFIX}*") if path.is_dir())

    def _read(self, folder: Path) -> Checkpoint:
        manifest = self._manifest(folder)
        theirs = manifest["identity"]
        for name in sorted(set(theirs) | set(self.identity)):
            if theirs.get(name) != self.identity.get(name):
                raise TuneError(
                    f"{folder} is of another run: its {name} is {theirs.get(name)!r}, this one's is "
                    f"{self.identity.get(name)!r}; give the same, or train in a new folder"
                )
        contents = {}
        for name in (*(f"{part}.safetensors" for part in TENSORS), STATE):
            path, entry = folder / name, manifest["files"].get(name, {})
            if not path.is_file():
                raise _refused(folder, f"{name} is missing")
            if path.stat().st_size != entry.get("size_bytes") or sha256(path) != entry.get("sha256"):
                raise _refused(folder, f"{name} is not what the manifest says")
            contents[name] = path.read_bytes()
        fields = json.loads(contents[STATE])
        for name in ("losses", "held_out_losses"):
            fields[name] = [(step, loss) for step, loss in fields[name]]
        return Checkpoint(State(**fields), {part: load(contents[f"{part}.safetensors"]) for part in TENSORS})

    def _manifest(self, folder: Path) -> dict[str, Any]:
        path = folder / MANIFEST
        if not path.is_file():
            raise _refused(folder, f"{MANIFEST} is missing, it was not written to its end")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _refused(folder, f"{MANIFEST} is not JSON ({error})") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise _refused(folder, f"{MANIFEST} is not of a training run")
        if manifest.get("version") != VERSION:
            raise _refused(folder, f"it is of version {manifest.get('version')!r}, this program reads {VERSION}")
        if not isinstance(manifest.get("identity"), dict) or not isinstance(manifest.get("files"), dict):
            raise _refused(folder, f"{MANIFEST} lacks identity or files")
        return manifest


def _refused(folder: Path, reason: str) -> TuneError:
    return TuneError(f"{folder} is not taken: {reason}; remove that folder to go on from the checkpoint before it")


def _ours(folder: Path) -> None:
    """A checkpoint of the same step is replaced (the same run came here before), nothing else is."""
    foreign = sorted(
        {p.name for p in folder.iterdir()} - {MANIFEST, STATE, *(f"{part}.safetensors" for part in TENSORS)}
    )
    if foreign:
        raise CheckpointError(f"{folder} holds {foreign[0]}, which is not a checkpoint's; move it elsewhere")


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))


def _json(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()
