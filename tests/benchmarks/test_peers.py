"""The table of engines side by side, from answers that are made up, and the files that some engines load."""

import argparse
import io
import json
import struct

import pytest

from benchmarks.peers import PEERS
from benchmarks.peers.run import report
from benchmarks.rivals import Rival
from benchmarks.shapes import SHAPES, Shape


def answered(name: str, step_s: float) -> Rival:
    answers = [{"at": at, "step_s": step_s, "prefill_s": 1.0, "resident_mib": 1024, "peak_mib": 2048} for at in (1, 2)]
    return Rival(name, lambda: None, 1, {"version": "1.0"}, answers)  # type: ignore[arg-type,return-value]


def test_four_layers_are_extrapolated_to_28_by_what_bounds_them(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(shape="6b-4layers", threads=2, prompt=512)
    missing = Rival("openvino", lambda: None, 1, trouble="not installed")  # type: ignore[arg-type,return-value]
    report(SHAPES["6b-4layers"], options, [answered("ours", 0.025), answered("llama_cpp", 0.05), missing])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["llama_cpp"]["decode_x_ours"] == 0.5
    assert figures["ours"]["decode_28_layers"] == pytest.approx(40 / 5.775, abs=0.02)  # the head is read once in either
    assert figures["ours"]["prefill_28_layers"] == pytest.approx(512 / 7, abs=0.1)
    assert figures["openvino"] == {"left out": "not installed"}


def test_every_peer_is_a_module_that_builds() -> None:
    from importlib import import_module

    for peer in PEERS.values():
        assert callable(import_module(f"benchmarks.peers.{peer.module}").build)


def test_a_ggml_file_is_as_long_as_its_tensors() -> None:
    """A wrong size would make the old loader read weights as names."""
    pytest.importorskip("numpy")
    from benchmarks.peers.ctransformers_q8 import write

    shape = Shape(1, 64, 2, 16, 40, 40, 32)
    file = io.BytesIO()
    write(shape, file)
    data = file.getvalue()
    place = 8 * 4
    assert struct.unpack_from("<8i", data) == (0x67676D6C, 40, 32, 64, 2, 1, 16, 2007)
    place += 4
    for _ in range(shape.vocab_size):
        place += 4 + struct.unpack_from("<I", data, place)[0]
    values = 0
    while place < len(data):
        num_dims, length, kind = struct.unpack_from("<3i", data, place)
        size = struct.unpack_from(f"<{num_dims}i", data, place + 12)
        count = size[0] * (size[1] if num_dims == 2 else 1)
        place += 12 + 4 * num_dims + length + (count // 32 * 34 if kind == 8 else 4 * count)
        values += count if num_dims == 2 else 0
    assert place == len(data)
    assert values == shape.streamed_weights + shape.vocab_size * shape.n_embd
