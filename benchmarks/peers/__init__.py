"""Other engines on a model of the same shape with random weights, beside ours.

A peer is a module here with `build(shape, threads, folder) -> Generate`; it imports its package inside, so that one
that is not installed is left out with a line. Files that a package wants to load from are written into `folder` once.
"""

from collections.abc import Callable
from dataclasses import dataclass

Generate = Callable[[list[int], int], object]
"""generate(ids, num_tokens): from nothing, take in `ids` and continue greedily by exactly `num_tokens`."""


@dataclass(frozen=True)
class Peer:
    """`package` as pip names it; `needs` is the most memory while building, in bytes a weight."""

    module: str
    package: str
    title: str
    needs: float


OURS = Peer("ours", "tertulia", "tertulia, 8-bit blockwise", 1.2)
PEERS = {
    "published": Peer("published", "tertulia", "dequantised by bitsandbytes, then multiplied", 1.2),
    "openvino": Peer("openvino_int8", "openvino", "OpenVINO, int8", 2.2),
    "ctranslate2": Peer("ctranslate2_int8", "ctranslate2", "CTranslate2, int8_float32", 1.2),
    "llama_cpp": Peer("llama_cpp_q8", "llama-cpp-python", "llama.cpp, Q8_0, GPT-NeoX", 1.2),
    "ctransformers": Peer("ctransformers_q8", "ctransformers", "ctransformers: ggml, Q8_0", 1.2),
    "transformers": Peer("transformers_bf16", "transformers", "transformers, bf16", 2.2),
}
