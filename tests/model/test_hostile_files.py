"""Files made to run code, to fill memory or to say what is not so: one line, and nothing written."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.model.refusing import ROOT, convert_refused
from tests.published import SHAPES, published_tensors, write_files, write_published


class _RunsCode:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_runs_code_never_runs(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    state = published_tensors(SHAPES["tiny"])
    torch.save({**state, "extra": _RunsCode(tmp_path / "ran")}, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", r"its pickle names 'posix\.system'")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_is_never_unpickled(tmp_path: Path, protocol: int) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    bare = pickle.dumps(_RunsCode(tmp_path / "ran"), protocol=protocol)
    (tmp_path / "src" / "pytorch_model.bin").write_bytes(bare)
    convert_refused(tmp_path / "src", "neither safetensors nor a torch.save zip")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("extra", [{"epoch": 3}, {"nested": {"a": torch.zeros(1)}}, {7: torch.zeros(1)}])
def test_a_state_dict_with_other_things_in_it_is_refused(tmp_path: Path, extra: dict[Any, Any]) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    torch.save(published_tensors(SHAPES["tiny"]) | extra, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", f"the entry '{next(iter(extra))}' is not a tensor")


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (torch.zeros(1).expand(10**6, 10**6), r"has the strides \[0, 0\], expected row-major"),
        (torch.zeros(320, 1, dtype=torch.uint8).expand(320, 64), r"has the strides \[1, 0\]"),
        (torch.zeros(64, 320, dtype=torch.uint8).T, r"has the strides \[1, 320\]"),
    ],
)
def test_a_tensor_that_is_larger_than_its_storage_is_refused(tmp_path: Path, tensor: Tensor, match: str) -> None:
    """A 1.5 kB file can declare 10^6 x 10^6 values, all of them the same four bytes."""
    write_files(tmp_path / "src", SHAPES["tiny"])
    torch.save(published_tensors(SHAPES["tiny"]) | {"lm_head.weight": tensor}, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", rf"lm_head\.weight .*{match}")


@pytest.mark.parametrize("name", ["two\nlines", "x" * 10_000, ""])
@pytest.mark.parametrize("as_safetensors", [False, True])
def test_a_hostile_name_stays_one_short_line(tmp_path: Path, name: str, as_safetensors: bool) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    state = {name: torch.zeros(1)}
    if as_safetensors:
        save_file(state, tmp_path / "src" / "model.safetensors")
    else:
        torch.save(state, tmp_path / "src" / "pytorch_model.bin")
    convert_refused(tmp_path / "src", "impossible name")


def repack(path: Path, edit: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Rewrite a zip with every entry edited."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, edit(name, data))


def test_a_storage_of_another_size_than_the_pickle_says_is_refused(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    repack(tmp_path / "src" / "pytorch_model.bin", lambda n, d: d[:-4] if n.endswith("data/0") else d)
    convert_refused(tmp_path / "src", r"the storage of transformer\.wte\.weight is 20476 bytes, expected 20480")


@pytest.mark.parametrize(
    ("pickled", "match"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "broken pickle"),  # a memo slot of 2^31: CPython's reader allocates 16 GB
        (b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "broken pickle|uses the instruction"),
        (b"\x80\x02(" + b"(" * 1000 + b".", "not a state dict"),
        (b"\x80\x02ctorch\n_C\nq\x00.", r"names 'torch\._C'"),
        (b"", "broken pickle"),
    ],
)
def test_a_crafted_pickle_is_refused_without_memory(tmp_path: Path, pickled: bytes, match: str) -> None:
    write_published(tmp_path / "src")
    repack(tmp_path / "src" / "pytorch_model.bin", lambda n, d: pickled if n.endswith("data.pkl") else d)
    convert_refused(tmp_path / "src", match)


_MEASURE = """
import sys
from pathlib import Path
from model.convert import quantize_checkpoint
from model.errors import ModelError

def peak_kb():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])

before = peak_kb()
try:
    quantize_checkpoint(sys.argv[1], sys.argv[2])
except ModelError as error:
    print(peak_kb() - before, error)
"""


def convert_measured(src: Path) -> tuple[int, str]:
    """Convert in a fresh process; (growth of its peak memory in MiB, message)."""
    command = [sys.executable, "-c", _MEASURE, str(src), str(src.parent / "out" / "dst")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    grown, _, message = done.stdout.strip().partition(" ")
    assert not (src.parent / "out").exists()
    return int(grown) // 1024, message


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads VmHWM from /proc")
def test_a_zip_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """390 kB that inflate to 400 MB, with sizes that agree with the pickle: torch.load would inflate them all."""
    write_files(tmp_path / "src", SHAPES["tiny"])
    path = tmp_path / "src" / "pytorch_model.bin"
    torch.save({"transformer.wte.weight": torch.zeros(400_000_000, dtype=torch.uint8)}, path)
    with zipfile.ZipFile(path) as archive:
        small = {name: archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size < 10_000}
        large = next(name for name in archive.namelist() if name not in small)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in small.items():
            archive.writestr(name, data)
        with archive.open(large, "w") as entry:
            for _ in range(400):
                entry.write(bytes(1_000_000))
    assert path.stat().st_size < 400_000
    grown_mib, message = convert_measured(tmp_path / "src")
    assert "zip bomb" in message
    assert str(path) in message
    assert grown_mib < 50


def test_compressed_entries_are_refused_even_when_small(tmp_path: Path) -> None:
    write_published(tmp_path / "src")
    path = tmp_path / "src" / "pytorch_model.bin"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/999", bytes(1000))
    convert_refused(tmp_path / "src", "the entry 'archive/data/999' is compressed")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    (tmp_path / "src" / "model.safetensors").write_bytes((2**26).to_bytes(8, "little") + b'{"a":')
    convert_refused(tmp_path / "src", r"model\.safetensors has 13 bytes, fewer than its header says")


def test_a_header_that_declares_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "src", SHAPES["tiny"])
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"lm_head.weight": entry}).encode()
    path = tmp_path / "src" / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    convert_refused(tmp_path / "src", r"its header describes 4000000000")
