"""OpenVINO: the GPT-J graph written with its operations, int8 weights with one scale a row, a cache that it keeps.

What it chooses by itself stays as it comes: on this class of CPU bf16 activations and, for prompts, int8 ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import Generate
from benchmarks.peers.weights import int8, scale
from benchmarks.shapes import Shape


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    import numpy as np
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(Graph(shape).model(), "CPU", settings).create_infer_request()
    beam = np.zeros(1, dtype=np.int32)

    def step(ids: list[int], past: int) -> int:
        positions = np.arange(past, past + len(ids), dtype=np.int64)
        tokens = np.array([ids], dtype=np.int64)
        result = request.infer({"input_ids": tokens, "positions": positions, "beam_idx": beam})
        return int(np.argmax(result[0]))

    def generate(ids: list[int], num_tokens: int) -> list[int]:
        request.reset_state()
        made = [step(ids, 0)]
        while len(made) < num_tokens:
            made.append(step(made[-1:], len(ids) + len(made) - 1))
        return made

    return generate


class Graph:
    """Nodes of one model; the names of its states pair what reads and what writes a cache."""

    def __init__(self, shape: Shape) -> None:
        import numpy as np
        from openvino import opset13

        self.np, self.op, self.shape = np, opset13, shape
        self.head_dim = shape.n_embd // shape.n_head
        self.num_matrices = 0
        self.writers: list[Any] = []

    def model(self) -> Any:
        """input_ids (1, T) i64, positions (T,) i64, beam_idx (1,) i32 -> logits of the last token (1, 1, V)."""
        import openvino as ov

        op, shape, np = self.op, self.shape, self.np
        ids = self.parameter("input_ids", [-1, -1], np.int64)
        positions = self.parameter("positions", [-1], np.int64)
        beam = self.parameter("beam_idx", [-1], np.int32)
        x = self.embed(ids)
        turn = self.angles(positions)
        mask = self.mask(positions)
        for layer in range(shape.n_layer):
            normed = self.norm(x)
            inner = op.gelu(self.linear(normed, 4 * shape.n_embd, bias=True), "tanh")
            mlp = self.linear(inner, shape.n_embd, bias=True)
            x = op.add(op.add(x, self.attention(normed, ids, turn, mask, beam, layer)), mlp)
        last = op.slice(x, self.ints(-1), self.ints(2**31 - 1), self.ints(1), self.ints(1))
        logits = op.result(self.linear(self.norm(last), shape.vocab_size, bias=True))
        return ov.Model([logits], self.writers, [ids, positions, beam], "gptj")

    def parameter(self, name: str, size: list[int], dtype: Any) -> Any:
        node = self.op.parameter(size, dtype, name)
        node.output(0).set_names({name})
        return node

    def ints(self, *values: int) -> Any:
        return self.op.constant(self.np.array(values, dtype=self.np.int64))

    def weight(self, rows: int, columns: int) -> tuple[Any, Any]:
        """int8 (rows, columns) and its scales (rows, 1)."""
        self.num_matrices += 1
        codes = self.op.constant(int8(rows, columns, shift=self.num_matrices), shared_memory=True)
        return codes, self.op.constant(self.np.full((rows, 1), scale(columns), dtype=self.np.float32))

    def linear(self, x: Any, rows: int, bias: bool, columns: int | None = None) -> Any:
        op, np = self.op, self.np
        columns = columns or int(x.get_output_partial_shape(0)[-1].get_length())
        codes, scales = self.weight(rows, columns)
        y = op.matmul(x, op.multiply(op.convert(codes, "f32"), scales), False, True)
        return op.add(y, op.constant(np.zeros((1, 1, rows), dtype=np.float32))) if bias else y

    def embed(self, ids: Any) -> Any:
        codes, scales = self.weight(self.shape.vocab_size, self.shape.n_embd)
        axis = self.op.constant(self.np.int64(0))
        rows = self.op.convert(self.op.gather(codes, ids, axis), "f32")
        return self.op.multiply(rows, self.op.gather(scales, ids, axis))

    def norm(self, x: Any) -> Any:
        op, np = self.op, self.np
        normed = op.mvn(x, self.ints(-1), True, 1e-5, "inside_sqrt")
        one, zero = (op.constant(np.full((1, 1, self.shape.n_embd), value, np.float32)) for value in (1.0, 0.0))
        return op.add(op.multiply(normed, one), zero)

    def angles(self, positions: Any) -> tuple[Any, Any]:
        """-> cosine, sine (1, 1, T, rotary_dim), laid out for halves that turn against each other."""
        op, np, dim = self.op, self.np, self.shape.rotary_dim
        inverse = 10000.0 ** (-np.arange(0, dim, 2, dtype=np.float32) / dim)
        table = np.outer(np.arange(self.shape.n_positions, dtype=np.float32), np.concatenate((inverse, inverse)))
        axis = op.constant(np.int64(0))

        def rows(values: Any) -> Any:
            return op.unsqueeze(op.gather(op.constant(values.astype(np.float32)), positions, axis), self.ints(0, 1))

        return rows(np.cos(table)), rows(np.sin(table))

    def mask(self, positions: Any) -> Any:
        """(1, 1, T, past + T) float32: 0 where a position may look, very low where not."""
        op, np = self.op, self.np
        zero, one = op.constant(np.int64(0)), op.constant(np.int64(1))
        end = op.add(op.reduce_max(positions, zero, False), one)
        keys = op.unsqueeze(op.range(zero, end, one, "i64"), zero)
        seen = op.less_equal(keys, op.unsqueeze(positions, one))
        low = op.select(seen, op.constant(np.float32(0)), op.constant(np.float32(-65504)))
        return op.unsqueeze(low, self.ints(0, 1))

    def rotate(self, x: Any, turn: tuple[Any, Any]) -> Any:
        """x (1, H, T, head_dim): the first rotary_dim entries turned."""
        op, dim = self.op, self.shape.rotary_dim
        turned, rest = self.cut(x, 0, dim), self.cut(x, dim, self.head_dim)
        low, high = self.cut(turned, 0, dim // 2), self.cut(turned, dim // 2, dim)
        minus = op.constant(self.np.float32(-1))
        crossed = op.concat([op.multiply(high, minus), low], -1)
        turned = op.add(op.multiply(turned, turn[0]), op.multiply(crossed, turn[1]))
        return op.concat([turned, rest], -1) if dim < self.head_dim else turned

    def cut(self, x: Any, start: int, end: int) -> Any:
        return self.op.slice(x, self.ints(start), self.ints(end), self.ints(1), self.ints(-1))

    def attention(self, x: Any, ids: Any, turn: tuple[Any, Any], mask: Any, beam: Any, layer: int) -> Any:
        op, wide, heads = self.op, self.shape.n_embd, self.shape.n_head

        def split() -> Any:
            y = op.reshape(self.linear(x, wide, bias=False), self.ints(0, 0, heads, self.head_dim), True)
            return op.transpose(y, self.ints(0, 2, 1, 3))  # (1, H, T, D)

        query, key = self.rotate(split(), turn), self.rotate(split(), turn)
        keys = self.remember(f"key.{layer}", key, ids, beam)
        values = self.remember(f"value.{layer}", split(), ids, beam)
        mixed = op.scaled_dot_product_attention(query, keys, values, mask)
        joined = op.reshape(op.transpose(mixed, self.ints(0, 2, 1, 3)), self.ints(0, 0, wide), True)
        return self.linear(joined, wide, bias=False, columns=wide)

    def remember(self, name: str, new: Any, ids: Any, beam: Any) -> Any:
        """What was stored under `name`, then `new`: (1, H, past + T, D)."""
        import openvino as ov

        op, np = self.op, self.np
        batch = op.gather(op.shape_of(ids, "i64"), self.ints(0), op.constant(np.int64(0)))
        empty = op.concat([batch, self.ints(self.shape.n_head, 0, self.head_dim)], 0)
        size = ov.PartialShape([-1, self.shape.n_head, -1, self.head_dim])
        info = ov.op.util.VariableInfo()
        info.data_shape, info.data_type, info.variable_id = size, ov.Type.f32, name
        variable = ov.op.util.Variable(info)
        past = op.read_value(op.broadcast(op.constant(np.float32(0)), empty), variable)
        both = op.concat([op.gather(past, beam, op.constant(np.int64(0))), new], 2)
        self.writers.append(op.assign(both, variable))
        return both
