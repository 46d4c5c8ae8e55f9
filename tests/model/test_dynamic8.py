"""The 8-bit format against bitsandbytes' map and a brute-force nearest neighbour, over awkward shapes."""

import pytest
import torch

from model.dynamic8 import BLOCK_SIZES, check_quantized, code_table, num_blocks, quantize
from model.errors import CheckpointError

AWKWARD_SHAPES = [(1, 1), (3, 5), (64, 64), (7, 130), (5, 1000), (2, 4096), (3, 4097)]


def test_code_table_is_bitsandbytes_dynamic_map() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    assert torch.equal(code_table(), functional.create_dynamic_map())


def test_code_table_is_ascending_with_zero_at_127_and_one_at_the_end() -> None:
    code = code_table()
    assert bool((code.diff() > 0).all())
    assert code[127] == 0
    assert code[255] == 1
    assert torch.equal(code[128:255], -code[:127].flip(0))


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("shape", AWKWARD_SHAPES)
def test_each_value_comes_back_as_the_nearest_code_of_its_block(shape: tuple[int, int], block_size: int) -> None:
    """Blocks run over the flattened weight: one that spans rows, or a short last one, must use its own scale."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stored = quantize(weight, block_size)
    assert stored.codes.shape == weight.shape
    assert stored.absmax.shape == (num_blocks(weight.numel(), block_size),)
    flat, back = weight.flatten(), stored.dequantize().flatten()
    for i, start in enumerate(range(0, flat.numel(), block_size)):
        block = flat[start : start + block_size]
        assert stored.absmax[i] == block.abs().max()
        nearest = (block[:, None] / stored.absmax[i] - code_table()).abs().amin(dim=1)
        error = (block - back[start : start + block_size]).abs() / stored.absmax[i]
        # bitsandbytes' compiled quantiser may take the other neighbour where both are almost equally near
        assert bool((error <= nearest + 1e-3).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_block_of_zeros_stays_zero(dtype: torch.dtype) -> None:
    back = quantize(torch.zeros(3, 100, dtype=dtype), 64).dequantize(dtype)
    assert back.dtype == dtype
    assert not bool(back.any())


@pytest.mark.parametrize("block_size", [0, 32, 100, 8192, -64])
def test_other_block_sizes_are_refused(block_size: int) -> None:
    with pytest.raises(ValueError, match="power of two from 64 to 4096"):
        quantize(torch.ones(4, 64), block_size)


def test_integer_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="floating"):
        quantize(torch.ones(4, 64, dtype=torch.int32), 64)


def _good() -> dict[str, torch.Tensor]:
    stored = quantize(torch.randn(4, 64, generator=torch.Generator().manual_seed(1)), 64)
    return {"codes": stored.codes, "absmax": stored.absmax.clone(), "code": stored.code.clone()}


def test_check_accepts_a_sane_weight_and_the_old_tables_first_entry() -> None:
    """Old quantisers wrote -1.0 over code[0]; the published files carry it and must load."""
    good = _good()
    good["code"][0] = -1.0
    check_quantized("h.0", **good, block_size=64)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("codes", torch.zeros(4, 64), "weight is float32"),
        ("absmax", torch.ones(3), r"absmax is float32 \[3\], expected float32 \[4\]"),
        ("absmax", torch.tensor([1.0, float("nan"), 1, 1]), "NaN"),
        ("absmax", torch.tensor([1.0, float("inf"), 1, 1]), "infinite"),
        ("absmax", torch.tensor([1.0, -1.0, 1, 1]), "negative"),
        ("absmax", torch.ones(4, dtype=torch.bfloat16), "absmax is bfloat16"),
        ("code", torch.zeros(256), "all zero"),
        ("code", torch.zeros(255), r"code is float32 \[255\]"),
        ("code", torch.ones(256, dtype=torch.bfloat16), "code is bfloat16"),
        ("code", torch.linspace(1, -1, 256), "ascending"),
        ("code", torch.linspace(-2, 2, 256), "from -1 to 1"),
    ],
)
def test_check_names_what_is_wrong(part: str, value: torch.Tensor, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        check_quantized("h.0.attn.q_proj", **{**_good(), part: value}, block_size=64)
    assert "h.0.attn.q_proj" in str(caught.value)
    assert "\n" not in str(caught.value)
