"""The capture of steps without a device: what stands in for `torch.cuda` runs nothing while it captures, as a GPU."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from model import GPTJ8bitForCausalLM
from model.engine import capture, graph
from model.engine.adapters import Adapter
from model.engine.capture import CaptureError, Graphs, Kind
from model.engine.graph import SlotDecode
from model.engine.params import SamplingParams
from model.engine.runner import Runner
from model.engine.slots import Slots
from model.gptj import generate_naive
from tests.model.engine.test_engine import make_model, random_ids
from tests.model.engine.test_graph import begin


class Device:
    """Stands in for a GPU: a graph holds the kind whose step was captured, and a replay runs that step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first = self.current = SimpleNamespace(wait_stream=lambda other: None)
        self.capturing: Graph | None = None
        self.refuses = False  # to capture
        self.ran: list[Kind] = []  # outside captures
        self.captured: list[Kind] = []
        self.pools: set[object] = set()
        made = {"Stream": lambda: SimpleNamespace(wait_stream=lambda other: None), "stream": self.stream}
        made |= {"current_stream": lambda: self.current, "CUDAGraph": lambda: Graph(self), "graph": self.graph}
        for name, stand_in in (made | {"graph_pool_handle": object, "device": nullcontext}).items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    def serve(self, decode: SlotDecode) -> None:
        self.decode, self.step = decode, decode.step
        decode.step = self.observe  # type: ignore[method-assign]
        decode.graphs = Graphs((decode.tokens, decode.places, decode.sampling.said))

    def observe(self, kind: Kind) -> None:
        if self.capturing is not None:
            self.capturing.kind = kind
            self.captured.append(kind)
        else:
            self.ran.append(kind)
            self.step(kind)

    @contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: "Graph", pool: object, stream: SimpleNamespace, capture_error_mode: str) -> Iterator[None]:
        """As torch's own: after a failure the current stream is not what it was."""
        assert capture.CAPTURING.locked()
        assert capture_error_mode == "thread_local"
        self.pools.add(pool)
        before, self.current, self.capturing = self.current, stream, graph
        try:
            yield
        finally:
            self.capturing = None
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.current = before


class Graph:
    kind: Kind

    def __init__(self, device: Device) -> None:
        self.device = device

    def replay(self) -> None:
        self.device.step(self.kind)


@pytest.fixture(scope="module")
def model() -> GPTJ8bitForCausalLM:
    return make_model(1000, 256)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def decoding(model: GPTJ8bitForCausalLM, device: Device | None, count: int = 2) -> SlotDecode:
    runner = Runner(model)
    decode = SlotDecode(runner, Slots(runner.layout, count))
    if device is not None:
        device.serve(decode)
    return decode


def adapter_of(seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 64, generator=generator), torch.randn(64, 2, generator=generator)
    return Adapter(f"adapter {seed}", {"transformer.h.1.attn.v_proj": (a, b, 1.0)})


def test_a_capture_leaves_no_trace_in_what_the_slots_hold(model: GPTJ8bitForCausalLM, device: Device) -> None:
    """Tokens said by a warm-up would be penalized, and its places never read."""
    params = SamplingParams(temperature=0.0, repetition_penalty=3.0)
    captured, plain = decoding(model, device), decoding(model, None)
    for decode in (captured, plain):
        begin(decode, decode.slots, random_ids(9), params)
        begin(decode, decode.slots, random_ids(4, seed=1), params)
    for asked in [[0]] * 3 + [[0, 1]] * 4 + [[1]] * 2:
        assert captured.run(asked)[asked].tolist() == plain.run(asked)[asked].tolist()
        for one, other in ((captured, plain), (captured.sampling, plain.sampling)):
            for name in ("tokens", "places") if isinstance(one, SlotDecode) else ("said",):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
    one, two = Kind(1, 256, True, None), Kind(2, 256, True, None)
    assert device.captured == [one, two]
    assert device.ran == [one, one, one, two]  # warm-ups
    assert len(device.pools) == 1
    assert not capture.CAPTURING.locked()


def test_the_graph_used_longest_ago_goes_first(
    model: GPTJ8bitForCausalLM, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "SPAN", 16)
    monkeypatch.setattr(capture, "MAX_GRAPHS", 2)
    decode, prompts = decoding(model, device), [random_ids(2), random_ids(28, seed=1)]
    said = []
    for prompt in prompts:
        _, token = begin(decode, decode.slots, prompt)
        said.append([token])
    for slot in (0, 1, 0, 1, 1, 1, 1, 0, 1):
        said[slot].append(decode.run([slot]).tolist()[slot])
    spans = [(kind.num_slots, kind.span) for kind in device.captured]
    assert spans == [(1, 16), (2, 32), (2, 64), (1, 16)]
    for prompt, found in zip(prompts, said, strict=True):
        assert prompt + found == generate_naive(model, prompt, len(found))


def test_each_adapter_has_graphs_of_its_own_and_goes_when_nobody_holds_it(
    model: GPTJ8bitForCausalLM, device: Device
) -> None:
    decode, plain = decoding(model, device), decoding(model, None)
    adapters = [adapter_of(1), adapter_of(2)]
    for each in (decode, plain):
        begin(each, each.slots, random_ids(9))
    for adapter in (adapters[0], adapters[1], None, adapters[0]):
        assert decode.run([0], adapter).tolist()[0] == plain.run([0], adapter).tolist()[0]
    assert [kind.adapter for kind in device.captured] == [adapters[0], adapters[1], None]
    gone = weakref.ref(adapters[1])
    device.ran.clear()
    device.captured.clear()
    for graphed in decode.graphs._graphs.values() if decode.graphs else ():
        del graphed.kind  # a true graph holds addresses, no adapter
    del adapters[1], adapter, graphed
    assert gone() is None
    decode.run([0], adapter_of(3))
    assert decode.graphs is not None
    assert len(decode.graphs._graphs) == 3


def test_a_failed_capture_is_told_apart_and_comes_back_clean(model: GPTJ8bitForCausalLM, device: Device) -> None:
    decode = decoding(model, device)
    begin(decode, decode.slots, random_ids(9), SamplingParams(temperature=1.0))
    before = [tensor.clone() for tensor in (decode.tokens, decode.places, decode.sampling.said)]
    device.refuses = True
    with pytest.raises(CaptureError, match="no CUDA graph of a step: operation not permitted"):
        decode.run([0])
    broken = Adapter("broken", {"transformer.h.1.attn.q_proj": (torch.zeros(2, 3), torch.zeros(64, 2), 1.0)})
    with pytest.raises(RuntimeError, match="mat1") as error:
        decode.run([0], broken)
    assert not isinstance(error.value, CaptureError)
    assert device.current is device.first
    assert not capture.CAPTURING.locked()
    for tensor, then in zip((decode.tokens, decode.places, decode.sampling.said), before, strict=True):
        assert torch.equal(tensor, then)
    device.refuses = False
    assert decode.run([0]).tolist()[0] >= 0
