"""The Triton kernels against float64: in Triton's interpreter on CPU, and compiled where there is a CUDA device."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from model.dynamic8 import quantize
from model.kernels import reference
from tests.model.kernels.tables import tables

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

MODULES = ("model.kernels.triton_linear", "model.kernels.triton_kernels")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROUNDING = {torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}
DECODERS = ("load", "gather", "gather4", "lines")
Stored = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    """The modules imported for the interpreter, beside compiled ones that the process may hold already."""
    own = {name: sys.modules.pop(name, None) for name in MODULES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield importlib.import_module("model.kernels.triton_kernels")
    for name, module in own.items():
        del sys.modules[name]
        if module is not None:
            sys.modules[name] = module


def _stored(shape: tuple[int, int], block_size: int, seed: int = 0) -> Stored:
    stored = quantize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), block_size)
    return stored.codes, stored.absmax, stored.code, block_size


def _check_linear(kernels: ModuleType, stored: Stored, rows: int, dtype: torch.dtype, seed: int = 1) -> None:
    """Forward with and without bias, and backward, against float64; an error counts beside the size of its terms."""
    (n_out, n_in), device = stored[0].shape, stored[0].device
    weight = reference.dequantize(*stored, torch.float64)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, n_in, generator=generator).to(device, dtype)
    grad = torch.randn(rows, 1, n_out, generator=generator).to(device, dtype)
    bias = torch.randn(n_out, generator=generator).to(device)
    nothing = torch.zeros((), device=device)
    for result, left, right, offset in (
        (kernels.linear(x, *stored, bias), x.double(), weight.T, bias.double()),
        (kernels.linear(x, *stored, None), x.double(), weight.T, nothing),
        (kernels.linear_backward(grad, *stored), grad.double(), weight, nothing),
    ):
        assert result.dtype == dtype
        true = left @ right + offset
        assert result.shape == true.shape
        error = (result.double() - true).abs()
        rounding = ROUNDING[dtype] * (2 if device.type == "cpu" and dtype == torch.bfloat16 else 1)  # it cuts off
        assert bool((error <= rounding * (left.abs() @ right.abs() + offset.abs()) + 1e-7).all())


def _only(kernels: ModuleType, patch: pytest.MonkeyPatch, decode: str) -> None:
    for name in ("STRIPS", "FEW", "MANY", "FLOAT32"):
        patch.setattr(kernels, name, tuple(choice._replace(decode=decode) for choice in getattr(kernels, name)[:1]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(("shape", "block_size"), [((3, 130), 64), ((70, 256), 256), ((5, 1000), 64), ((150, 192), 64)])
def test_linear_both_ways(
    kernels: ModuleType, shape: tuple[int, int], block_size: int, rows: int, dtype: torch.dtype
) -> None:
    """Rows and columns that no tile divides, blocks that span rows, a short last block."""
    _check_linear(kernels, _stored(shape, block_size), rows, dtype)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_every_decoder_and_split_of_a_sum_gives_the_same(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int, decode: str
) -> None:
    """A device takes the fastest one: each must be right. 64 processors make several programs share a sum."""
    _only(kernels, monkeypatch, decode)
    monkeypatch.setattr(kernels, "_processors", lambda device: 64)
    _check_linear(kernels, _stored((20, 1024), 512), rows, torch.float16)


@pytest.mark.parametrize("name", list(tables()))
@pytest.mark.parametrize("rows", [1, 3])
def test_linear_follows_the_table_it_is_given(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int, name: str
) -> None:
    """Old quantisers wrote -1.0 over the first entry: arithmetic that knows only today's table would be 0.7 % off."""
    code = tables()[name].clone()
    codes = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 128).contiguous()
    x = torch.zeros(rows, 128)
    x[:, 77] = torch.arange(1, rows + 1)  # small integers: no rounding in the sums
    true = torch.arange(1, rows + 1)[:, None] * code.double()
    for decode in ("lines", "load") if kernels.lines(code).followed else ("load", "gather4"):
        _only(kernels, monkeypatch, decode)
        result = kernels.linear(x, codes, torch.ones(256), code, 128, None).double()
        assert bool(((result - true).abs() <= 7e-7 * true.abs()).all())
        assert torch.equal(result[:, 255], true[:, 255].float().double())
        assert name == "even" or bool((result[:, 127] == 0).all())


def test_only_a_table_of_straight_lines_is_decoded_by_arithmetic(kernels: ModuleType) -> None:
    """The stored table is the authority: one bent value and it is looked up."""
    found = {name: kernels.lines(code) for name, code in tables().items()}
    assert {name: table.followed for name, table in found.items()} == {
        "today": True,
        "published": True,
        "bent": False,
        "ends below one": True,
        "even": False,
    }
    assert found["published"].decoder("lines") == "lines_first"
    assert found["today"].decoder("lines") == "lines"
    assert all(choice.decode != "lines" for choice in kernels.usable(kernels.STRIPS, found["bent"]))


def test_a_table_written_anew_is_looked_at_again(kernels: ModuleType) -> None:
    """A layer's table is zeros until its checkpoint is copied into the same tensor."""
    code = torch.zeros(256)
    assert kernels.lines(code).first_apart is False
    code.copy_(tables()["published"])
    assert kernels.lines(code).first_apart is True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "block_size"), [((1, 1), 64), ((3, 130), 64), ((5, 1000), 256), ((2, 8200), 4096)])
def test_dequantize_and_embedding(
    kernels: ModuleType, shape: tuple[int, int], block_size: int, dtype: torch.dtype
) -> None:
    """Bit for bit; only the interpreter's own bf16 may be one step off, it cuts off where a device rounds."""
    stored = _stored(shape, block_size)
    true = reference.dequantize(*stored, dtype)
    ids = torch.randint(0, shape[0], (2, 3), generator=torch.Generator().manual_seed(1))
    for result, expected in (
        (kernels.dequantize(*stored, dtype), true),
        (kernels.embedding(ids, *stored, dtype), true[ids]),
    ):
        assert result.dtype == dtype
        if dtype == torch.bfloat16:
            torch.testing.assert_close(result, expected, rtol=2**-7, atol=0)
        else:
            assert torch.equal(result, expected)


def test_an_id_outside_the_table_gives_nan_and_reads_nothing(kernels: ModuleType) -> None:
    stored = _stored((5, 64), 64)
    rows = kernels.embedding(torch.tensor([0, 5, -1], dtype=torch.int32), *stored, torch.float32)
    assert torch.equal(rows[0], reference.dequantize(*stored, torch.float32)[0])
    assert bool(rows[1:].isnan().all())


def test_many_rows_are_multiplied_by_torch(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond FUSED_ROWS the weight is dequantised once; no rows at all and float64 are the reference's."""
    monkeypatch.setattr(kernels, "FUSED_ROWS", 8)
    _check_linear(kernels, _stored((20, 96), 64), 9, torch.float32)
    stored = _stored((20, 96), 64)
    assert kernels.linear(torch.zeros(0, 96), *stored, None).shape == (0, 20)
    assert kernels.linear_backward(torch.zeros(0, 20), *stored).shape == (0, 96)
    x = torch.randn(3, 96, dtype=torch.float64)
    assert torch.equal(kernels.linear(x, *stored, None), reference.linear(x, *stored, None))


def test_what_cannot_work_says_so_in_one_line(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler Triton imports and then fails at the first launch."""
    kernels.probe("cpu")

    def fail(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    monkeypatch.setattr(kernels, "dequantize", fail)
    with pytest.raises(ImportError, match=r"Triton does not work on cpu \(Failed to find C compiler.\)$"):
        kernels.probe("cpu")


def test_importing_ops_imports_no_triton_and_cpu_never_asks_for_it() -> None:
    """Triton takes a second to import and is of no use without a device."""
    script = (
        "import sys, torch; from model.kernels import ops; ops.kernels('cpu'); "
        "assert 'model.kernels.triton_kernels' not in sys.modules; "
        "assert ops._BY_DEVICE['cuda'][0] == 'triton' in ops.KERNELS"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A CUDA device that Triton compiles for."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 17, 200, 700])
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        ((3, 130), 64),
        ((301, 512), 64),
        ((33, 4096), 4096),
        ((130, 8200), 256),
        ((1024, 1024), 256),
        ((512, 16384), 4096),
    ],
)
def test_on_a_device(
    device: torch.device, shape: tuple[int, int], block_size: int, rows: int, dtype: torch.dtype
) -> None:
    """Fresh inputs each time, the seed stands in the failure's arguments. Every decoder, then the one found fastest."""
    kernels = importlib.import_module("model.kernels.triton_kernels")
    seed = int.from_bytes(os.urandom(4))
    codes, absmax, code, _ = (part.to(device) if torch.is_tensor(part) else part for part in _stored(shape, block_size))
    stored = (codes, absmax, code, block_size)
    for decode in DECODERS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("model.kernels.triton_choices._chosen", {})
            _only(kernels, patch, decode)
            _check_linear(kernels, stored, rows, dtype, seed)
    _check_linear(kernels, stored, rows, dtype, seed)
    assert torch.equal(kernels.dequantize(*stored, dtype), reference.dequantize(*stored, dtype))
    ids = torch.randint(0, shape[0], (2, 3), device=device)
    assert torch.equal(kernels.embedding(ids, *stored, dtype), reference.embedding(ids, *stored, dtype))


@pytest.mark.gpu
def test_a_captured_graph_gives_the_same(device: torch.device) -> None:
    """Decoding is one CUDA graph: nothing in a launch may wait for the device."""
    kernels = importlib.import_module("model.kernels.triton_kernels")
    codes, absmax, code, _ = (part.to(device) if torch.is_tensor(part) else part for part in _stored((512, 1024), 256))
    for rows in (1, 8):
        x = torch.randn(rows, 1024, device=device, dtype=torch.bfloat16)
        eager = kernels.linear(x, codes, absmax, code, 256, None)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = kernels.linear(x, codes, absmax, code, 256, None)
        captured.zero_()
        graph.replay()
        assert torch.equal(captured, eager)
