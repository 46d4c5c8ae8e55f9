"""manifest.json: what a native folder consists of, so that a missing, foreign, cut or altered file is named."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.atomic_folder import hash_files
from model.errors import CheckpointError
from model.geometry import read_json

FORMAT = "tertulia-8bit"
VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
AGAIN = "convert or download it again"
_HASH_LENGTH = 64


def is_native(folder: str | Path) -> bool:
    """True when the folder has a manifest of this format (of any version, sound or not)."""
    try:
        return read_json(Path(folder) / MANIFEST).get("format") == FORMAT
    except CheckpointError:
        return False


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a native folder, its fields checked; raises CheckpointError saying what the folder is instead."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give that of a checkpoint, or `embedded`")
    path = folder / MANIFEST
    if not path.exists():
        raise CheckpointError(
            f"{folder} has no {MANIFEST}: it is not a native checkpoint; run `tertulia quantize {folder} NEW_FOLDER`"
        )
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is {reprlib.repr(manifest.get('format'))}, expected {FORMAT!r}")
    if manifest.get("version") != VERSION or isinstance(manifest["version"], bool):
        raise CheckpointError(
            f"{path}: version is {reprlib.repr(manifest.get('version'))}, "
            f"this program reads {VERSION}; update it or {AGAIN}"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or CONFIG not in files or not all(map(_sound_entry, files.items())):
        raise CheckpointError(f"{path}: files is not a list of names with sha256 and size_bytes; {AGAIN}")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], check_hashes: bool = True) -> None:
    """Raise CheckpointError naming the first file that is missing, has another size or sha256, or is a stray shard."""
    files = manifest["files"]
    for name, entry in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise CheckpointError(f"{path} is missing; {AGAIN}")
        if size != entry["size_bytes"]:
            raise CheckpointError(f"{path} has {size} bytes, the manifest says {entry['size_bytes']}; {AGAIN}")
    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in files:
            raise CheckpointError(f"{path} is not in the manifest; move it elsewhere")
    if check_hashes:
        for path, digest in hash_files(folder / name for name in files).items():
            if digest != files[path.name]["sha256"]:
                raise CheckpointError(f"{path} is damaged: its sha256 is not the manifest's; {AGAIN}")


def check_replaceable(folder: Path) -> None:
    """Only a native folder without foreign files is replaced: nothing that someone put there is deleted."""
    own = {*read_manifest(folder)["files"], MANIFEST}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if foreign:
        raise CheckpointError(f"{folder} holds {foreign[0]}, which is not the checkpoint's; choose another folder")


def describe(paths: list[Path]) -> dict[str, dict[str, Any]]:
    digests = hash_files(paths)
    return {path.name: {"sha256": digests[path], "size_bytes": path.stat().st_size} for path in paths}


def _sound_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    return (
        plain_name(name)
        and isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and len(entry["sha256"]) == _HASH_LENGTH
        and type(entry.get("size_bytes")) is int
    )


def plain_name(name: str) -> bool:
    return bool(name) and name == Path(name).name and not name.startswith(".")


def json_bytes(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
