"""Checks all of a native checkpoint (files, hashes, keys, dtypes, shapes, values), and measures how far a source is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint
from model.errors import CheckpointError
from model.export import dequantized_pieces
from model.manifest import MANIFEST, read_manifest
from model.sources import Source, open_source

Progress = Callable[[int, int, str], None]  # values compared, values in all, name


@dataclass(frozen=True)
class TensorReport:
    """One weight (its codes, scales and table together), or one float tensor."""

    name: str
    storage: str  # "8-bit" or "float32"
    shape: tuple[int, ...]
    size_bytes: int
    largest: float  # magnitude
    zero_blocks: int = 0  # blocks whose scale is 0: every weight of them is 0
    max_abs_error: float | None = None  # these two only against a source
    relative_rms_error: float | None = None
    identical_codes: bool | None = None  # against an 8-bit source: codes, scales and table are the same bits


@dataclass(frozen=True)
class Report:
    """What `verify` found; a checkpoint that is not sound raises instead."""

    folder: Path
    config: dict[str, Any]
    block_size: int | None
    num_tensors: int
    parameters: int
    num_files: int
    size_bytes: int
    source: dict[str, Any]
    unlisted: tuple[str, ...]  # files in the folder that are not the checkpoint's
    tensors: tuple[TensorReport, ...]
    against: Path | None = None
    identical: bool | None = field(default=None)  # every value is exactly the source's

    @property
    def bits_per_parameter(self) -> float:
        """Storage of all tensors, scales included."""
        return 8 * sum(tensor.size_bytes for tensor in self.tensors) / self.parameters

    @property
    def max_abs_error(self) -> float | None:
        """The largest error of any tensor, against the source."""
        errors = [tensor.max_abs_error for tensor in self.tensors if tensor.max_abs_error is not None]
        return max(errors) if errors else None

    @property
    def relative_rms_error(self) -> float | None:
        """The largest relative error of any tensor: rms of the difference over rms of the source."""
        errors = [tensor.relative_rms_error for tensor in self.tensors if tensor.relative_rms_error is not None]
        return max(errors) if errors else None


def verify(folder: str | Path, against: str | Path | None = None, progress: Progress | None = None) -> Report:
    """Check a native folder wholly, and with `against` compare every weight with that source, piece by piece.

    Raises CheckpointError naming the first file or tensor that is not what it should be.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    weights = checkpoint.load_weights(folder)
    config = checkpoint.read_config(folder)
    source = None if against is None else _open_matching(against, config)
    reports, done = [], 0
    identical = None if source is None else True
    for name, tensor in weights.items():
        if name.endswith((".absmax", ".code")):
            continue
        errors = {} if source is None else _errors(weights, name, config["block_size"], source)
        identical = identical and errors["identical_codes"] is not False and errors["max_abs_error"] == 0
        reports.append(_describe(weights, name, errors))
        done += tensor.numel()
        if progress is not None:
            progress(done, manifest["parameters"], name)
        if source is not None:
            source.release()
    listed = {*manifest["files"], MANIFEST}
    return Report(
        folder=folder,
        config=config,
        block_size=config["block_size"],
        num_tensors=len(weights),
        parameters=sum(math.prod(report.shape) for report in reports),
        num_files=len(listed),
        size_bytes=sum(entry["size_bytes"] for entry in manifest["files"].values()),
        source=manifest.get("source") or {},
        unlisted=tuple(sorted(path.name for path in folder.iterdir() if path.name not in listed)),
        tensors=tuple(reports),
        against=None if against is None else Path(against),
        identical=identical,
    )


def _open_matching(against: str | Path, config: dict[str, Any]) -> Source:
    source = open_source(against)
    for name in ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions", "rotary_dim", "n_inner"):
        if source.config[name] != config[name]:
            raise CheckpointError(f"{against}: {name} is {source.config[name]}, the checkpoint has {config[name]}")
    return source


def _describe(weights: dict[str, Tensor], name: str, errors: dict[str, Any]) -> TensorReport:
    tensor, module = weights[name], name.removesuffix(".weight")
    shape = tuple(tensor.shape)
    if tensor.dtype != torch.uint8:
        return TensorReport(name, "float32", shape, tensor.nbytes, float(tensor.abs().max()), **errors)
    absmax, code = weights[f"{module}.absmax"], weights[f"{module}.code"]
    return TensorReport(
        module,
        "8-bit",
        shape,
        tensor.nbytes + absmax.nbytes + code.nbytes,
        largest=float(absmax.max() * code.abs().max()),
        zero_blocks=int((absmax == 0).sum()),
        **errors,
    )


def _errors(weights: dict[str, Tensor], name: str, block_size: int | None, source: Source) -> dict[str, Any]:
    """Differences of one tensor, piece by piece."""
    identical = _same_bits(weights, name, source) if weights[name].dtype == torch.uint8 else None
    if identical:
        return {"max_abs_error": 0.0, "relative_rms_error": 0.0, "identical_codes": True}
    largest, squares, reference = 0.0, 0.0, 0.0
    for (_, ours), theirs in zip(dequantized_pieces(weights, name, block_size), _pieces(source, name), strict=True):
        difference = ours - theirs
        largest = max(largest, float(difference.abs().max()))
        squares += float(torch.dot(difference, difference))
        reference += float(torch.dot(theirs, theirs))
        if not math.isfinite(reference):
            raise CheckpointError(
                f"{name} holds NaN or infinite values in {source.folder}; nothing compares with those"
            )
    relative = math.sqrt(squares / reference) if reference else (0.0 if squares == 0 else math.inf)
    return {"max_abs_error": largest, "relative_rms_error": relative, "identical_codes": identical}


def _pieces(source: Source, name: str) -> Iterator[Tensor]:
    module = name.removesuffix(".weight")
    parts = {part: source.read(part) for part in (name, f"{module}.absmax", f"{module}.code") if part in source.stored}
    for _, values in dequantized_pieces(parts, name, source.config["block_size"]):
        yield values


def _same_bits(weights: dict[str, Tensor], name: str, source: Source) -> bool | None:
    if source.kind == "float":
        return None
    module = name.removesuffix(".weight")
    return all(torch.equal(weights[part], source.read(part)) for part in (name, f"{module}.absmax", f"{module}.code"))
