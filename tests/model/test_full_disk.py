"""Places that cannot take a checkpoint: one line, and nothing half written."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.convert import quantize_checkpoint
from tests.model.refusing import ROOT, refused


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_with_the_bytes_needed(sound: Path, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(150_000))
    message = refused(lambda: quantize_checkpoint(sound / "src", small_disk / "dst"), "the disk is full")
    assert str(small_disk / "dst") in message
    needed = int(message.split(" bytes are needed")[0].split()[-1])
    assert 160_000 < needed < 300_000
    assert [path.name for path in small_disk.iterdir()] == ["other"]


_LIMITED = """
import resource, sys
from model.convert import quantize_checkpoint
from model.errors import ModelError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    quantize_checkpoint(sys.argv[1], sys.argv[2])
except ModelError as error:
    print(error)
"""


def test_a_disk_that_fills_up_while_writing_leaves_nothing(sound: Path, tmp_path: Path) -> None:
    """What cannot be known before (quotas, another writer) is met in the middle of a shard."""
    command = [sys.executable, "-c", _LIMITED, str(sound / "src"), str(tmp_path / "new" / "dst")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"cannot write {tmp_path / 'new' / 'dst'}: the disk is full:" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(lambda: quantize_checkpoint(sound / "src", tmp_path / "file"), "file is a file, expected")
    refused(lambda: quantize_checkpoint(sound / "src", tmp_path / "file" / "dst"), "file is a file, expected")
    refused(lambda: quantize_checkpoint(sound / "src", "/proc/dst"), "cannot write /proc/dst")
