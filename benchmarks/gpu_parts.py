"""What `benchmarks.gpu` measures, a class for each model that is loaded: its methods give figures by name.

Always: random weights made on the device, a method may be called alone and in any order, times are medians.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.process import median
from benchmarks.random_model import Letters, linears, random_model
from benchmarks.replies import ask, random_ids
from benchmarks.shapes import Shape
from model.engine.cache import KeyValues
from model.engine.engine import Engine
from model.engine.graph import SPAN, SlotDecode
from model.engine.params import SamplingParams
from model.engine.runner import Runner, Segment
from model.engine.slots import Slots
from model.kernels import ops
from training.gpu_memory import at_most, is_out_of_memory
from training.tuning.fitting import fit
from training.tuning.learner import Learner
from training.tuning.memory import forget_peak, peak_mb
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes
from training.tuning.random_rows import random_unit

Figures = dict[str, Any]
PROMPT = 64  # tokens that a conversation holds when decoding is measured
BUDGET_GB, RANK = 11.0, 8


class Part:
    """A model on a device, and stopwatches."""

    def __init__(self, shape: Shape, device: str, quick: bool) -> None:
        self.shape, self.device, self.repeats = shape, device, 2 if quick else 5
        self.tokens = 4 if quick else 64

    def seconds(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """The median of several times, after one that warms up."""
        took = []
        for _ in range(1 + (repeats or self.repeats)):
            self.wait()
            began = time.perf_counter()
            run()
            self.wait()
            took.append(time.perf_counter() - began)
        return median(took[1:])

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_gb(self, run: Callable[[], object]) -> float:
        """The most that is allocated while it runs (on a CPU: resident), what was there before included.

        It has run once before: the tuning of kernels takes memory of its own.
        """
        run()
        gc.collect()
        forget_peak(torch.device(self.device))
        run()
        self.wait()
        return peak_mb(torch.device(self.device)) / 1000

    def only_on_a_gpu(self) -> None:
        if self.device != "cuda":
            raise RuntimeError("only on a GPU")


class Inference(Part):
    """Our model classes: 8-bit with our kernels or bitsandbytes', or plain 16-bit weights."""

    def __init__(self, shape: Shape, device: str, quick: bool, kernels: str = "auto", in_8bit: bool = True) -> None:
        super().__init__(shape, device, quick)
        ops.use(kernels)
        dtype = torch.float16 if device == "cuda" else torch.bfloat16
        self.model: Any = random_model(shape, dtype, in_8bit, device)
        self.runner = Runner(self.model)

    def about(self) -> Figures:
        name = torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return {"device": name, "torch": torch.__version__, "kernels": ops.kernels(self.device).__name__.split(".")[-1]}

    def copy_gbs(self) -> Figures:
        """GB/s of a copy, read and written bytes both counted."""
        source = torch.ones(2**31 if self.device == "cuda" else 2**26, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return {"copy": 2 * len(source) / self.seconds(lambda: target.copy_(source), 20) / 1e9}

    def peak(self) -> Figures:
        """A conversation that fills the context, taken in and answered by the engine in its slot; captures included."""

        def converse() -> None:
            engine = Engine(self.model, Letters(), max_batch=1, in_slots=True)
            try:
                ask(engine, random_ids(engine, engine.context - self.tokens, 0), self.tokens)
            finally:
                engine.close()

        return {"peak_gb": self.peak_gb(converse)}

    def prefill(self) -> Figures:
        length = self.shape.n_positions
        ids = torch.arange(length, device=self.device)[None] % self.shape.num_tokens
        with torch.inference_mode():
            took = self.seconds(lambda: self.model(ids, use_cache=False, logits_to_keep=1))
        return {"prefill": length / took}

    def engine_1(self) -> Figures:
        """Decoding as a chat has it: in a slot of the engine, by a graph, every token handed out."""
        engine = Engine(self.model, Letters(), in_slots=True)
        try:
            ask(engine, random_ids(engine, PROMPT, 0), 4)
            replies = [ask(engine, random_ids(engine, PROMPT, i), self.tokens + 1) for i in range(self.repeats)]
        finally:
            engine.close()
        return {"decode_1": median([reply.decode_tokens_per_s for reply in replies])}

    def runner_1(self) -> Figures:
        """Decoding by operations that are started one by one."""
        kv = KeyValues(self.runner.layout, None)
        self.runner.forward([Segment(kv, [5] * PROMPT)])

        def reply() -> None:
            for _ in range(self.tokens):
                int(self.runner.forward([Segment(kv, [7])])[0].argmax())
            kv.crop(PROMPT)

        return {"decode_1": self.tokens / self.seconds(reply)}

    def graph_1(self) -> Figures:
        return {"decode_1": self._static(1, compiled=False)}

    def graph_32(self) -> Figures:
        return {"decode_32": self._static(32, compiled=False)}

    def compiled_1(self) -> Figures:
        """As graph_1, attention compiled; the rest of a layer is not."""
        self.only_on_a_gpu()
        return {"decode_1": self._static(1, compiled=True)}

    def compiled_32(self) -> Figures:
        self.only_on_a_gpu()
        return {"decode_32": self._static(32, compiled=True)}

    def read_bytes(self) -> Figures:
        """What a token of one conversation reads: weights, their scales, and keys and values of as many places."""
        weights = sum(tensor.nbytes for layer in linears(self.model) for tensor in (layer.weight, layer.absmax))
        return {"bytes_per_token": weights + SPAN * self.runner.layout.bytes_per_token}

    def _static(self, batch: int, *, compiled: bool) -> float:
        """Tokens/s in all of `batch` conversations in fixed slots; on a GPU each step is a CUDA graph."""
        decode = SlotDecode(self.runner, Slots(replace(self.runner.layout, context=SPAN), batch), compiled=compiled)
        slots = range(batch)

        def reply() -> None:
            for slot in slots:
                decode.join(slot, PROMPT, 7, SamplingParams(temperature=0.0), ())
            self.wait()
            began = time.perf_counter()
            for _ in range(self.tokens):
                decode.run(slots)
            self.wait()
            took.append(time.perf_counter() - began)

        took: list[float] = []
        for _ in range(1 + self.repeats):
            reply()
        return batch * self.tokens / median(took[1:])


class Training(Part):
    """LoRA on q and v, `training.tuning`'s own step; on the 8-bit base, or on 16-bit weights."""

    def __init__(self, shape: Shape, device: str, quick: bool, kernels: str = "auto", in_8bit: bool = True) -> None:
        super().__init__(shape, device, quick)
        ops.use(kernels)
        base = random_model(shape, torch.float32 if in_8bit else torch.bfloat16, in_8bit, device)
        self.options = TuneOptions(rank=RANK, row_tokens=shape.n_positions)
        self.learner = Learner(base, self.options, Processes(device))
        self.length, self.short = shape.n_positions, shape.n_positions // 4

    def layers_1(self) -> Figures:
        return self._step(1, self.length, checkpointing="layers")

    def layers_8(self) -> Figures:
        return self._step(8, self.short, checkpointing="layers")

    def attention_1(self) -> Figures:
        return self._step(1, self.length, checkpointing="attention")

    def none_1(self) -> Figures:
        return self._step(1, self.length, checkpointing="none")

    def offload_1(self) -> Figures:
        return self._step(1, self.length, checkpointing="layers", offload=True)

    def budget(self) -> Figures:
        """What --memory-gb 11 chooses for the long example and takes, and whether the limit holds."""
        self.learner.use(replace(self.options, memory_gb=BUDGET_GB))
        said = fit(self.learner, self.length, self.length).said
        chosen = self.learner.options
        step = self._step(1, self.length, checkpointing=chosen.checkpointing, offload=chosen.offload)
        if self.device == "cuda":
            at_most(self.device, BUDGET_GB)
            try:
                torch.empty(int(BUDGET_GB * 1e9), dtype=torch.uint8, device=self.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                step["capped"] = True
        return {**step, "said": said}

    def _step(self, examples: int, length: int, **ways: Any) -> Figures:
        """Seconds and the most GB of a step over so many examples."""
        self.learner.use(replace(self.options, **ways))
        units = [random_unit(length, 1, self.shape.num_tokens) for _ in range(examples)]
        peak = self.peak_gb(lambda: self.learner.step(units, 0, 10))
        return {"seconds": self.seconds(lambda: self.learner.step(units, 1, 10), min(3, self.repeats)), "peak_gb": peak}
