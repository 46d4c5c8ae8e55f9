"""The benchmark of the GPU, tried on a CPU with a tiny shape: every row comes or says why, the last line is JSON."""

import json
import threading

import pytest

from benchmarks import gpu
from benchmarks.gpu import PARTS, main
from benchmarks.gpu_table import Row, table
from benchmarks.workers import WorkerError


def test_a_dry_run_fills_its_table_and_ends_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["ours", "fp16", "lora", "lora16", "transformers"]
    main(["--shape", "tiny", "--device", "cpu", "--quick", "--here", "--parts", *parts])
    *lines, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    wanted = {f"{part}.{figure}" for part in parts for figure in PARTS[part][2]} - {"ours.about"}
    assert set(told["figures"]) | set(told["left_out"]) == wanted
    only_on_a_gpu = {name for name in wanted if "compiled" in name or "static" in name}
    assert set(told["left_out"]) == only_on_a_gpu, told["left_out"]
    assert told["figures"]["lora.budget"]["said"].startswith("within 11 GB")
    assert told["figures"]["ours.graph_32"]["decode_32"] > 0
    assert any(line.startswith("prefill of a context, over 16 bit") and " x " in line for line in lines)
    assert set(told["goals"].values()) == {None}  # they are for another shape


def test_what_fails_is_left_out_with_its_reason_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu_parts.Inference.prefill", lambda self: 1 / 0)
    main(["--shape", "tiny", "--device", "cpu", "--quick", "--here", "--parts", "ours"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["left_out"]["ours.prefill"].startswith("ZeroDivisionError")
    assert "ours.graph_32" in told["figures"]


def test_a_worker_that_takes_too_long_or_dies_is_replaced_and_nothing_begins_without_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an illegal access every call of a process fails: the other figures need another process."""
    started: list[str] = []

    class Fake:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def ask(self, **question: object) -> dict:
            if question["do"] == "layers_1":
                self.closed.wait(20)
                raise WorkerError("ended with exit code -9: nothing in its log (see a file)")
            if question["do"] == "none_1":
                raise WorkerError("AcceleratorError: CUDA error: an illegal memory access")
            return {"seconds": 1.0, "peak_gb": 2.0, "said": "this"}

        def close(self) -> None:
            self.closed.set()

    def start(part: str, *args: object) -> Fake:
        started.append(part)
        return Fake()

    monkeypatch.setattr(gpu, "start", start)
    monkeypatch.setattr(gpu, "FIGURE_S", 0.2)
    main(["--parts", "lora"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["left_out"] == {
        "lora.layers_1": "ended, since it took longer than 0 s",
        "lora.none_1": "AcceleratorError: CUDA error: an illegal memory access",
    }
    assert started == ["lora"] * 3
    main(["--parts", "lora16", "--limit", "0"])
    assert "no time was left" in capsys.readouterr().out


def test_goals_are_judged_by_ratios_of_the_same_run() -> None:
    found = {
        "ours.graph_1": {"decode_1": 400.0},
        "ours.compiled_1": {"decode_1": 500.0},
        "fp16.compiled_1": {"decode_1": 250.0},
        "transformers.static_1": {"decode_1": 200.0},
        "ours.copy_gbs": {"copy": 4000.0},
        "ours.read_bytes": {"bytes_per_token": 6e9},
        "lora.layers_1": {"seconds": 1.04, "peak_gb": 8.0},
        "lora16.layers_1": {"seconds": 1.0, "peak_gb": 15.0},
        "lora.none_1": {"seconds": 0.8, "peak_gb": 14.0},
    }
    found["ours.engine_1"] = {"decode_1": 375.0}
    rows = {row.name: row for row in table(found, judged=True)}
    assert rows["decode, batch 1, over compiled 16 bit"] == Row(
        "decode, batch 1, over compiled 16 bit", "2.00 x", ">= 1.7", True
    )
    assert rows["decode, batch 1, by the engine, over compiled 16 bit"][1:] == ("1.50 x", ">= 1.7", False)
    assert rows["decode, batch 1, by the engine, of what the bandwidth allows"].figure == "56.25 %"
    assert rows["decode, batch 1: 16-bit weights, our decoder, attention compiled"].figure == "250.0 tokens/s"
    assert rows["decode, batch 1, of what the bandwidth allows"].figure == "75.00 %"
    assert rows["LoRA step, 1 x 2048, time over 16-bit weights"].met is False
    assert rows["LoRA step, 1 x 2048, layers again"].figure == "1.040 s, 8.00 GB, +30 % over keeping all"
    assert rows["decode, batch 32, over compiled 16 bit"].met is None
