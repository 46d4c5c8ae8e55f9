# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803, SIM108
"""The kernels that `triton_kernels` launches, in Triton: decode, scale, multiply, add up in float32.

Weight (N, K) row-major in codes; absmax of element (n, k) at (n * K + k) >> BLOCK_LOG2. SHARED says that the codes of a
row in one tile lie in one block, so that a tile needs one absmax a row; else each element looks its own up. `lines` is
described in `triton_tables`. A code that is masked off is read as 0 and meets an activation or a scale of 0, or is
never written. No function of Triton's own library is called: its interpreter takes those only when it was on before
Triton was imported.
"""

import triton
import triton.language as tl


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _entries(table, DECODE: tl.constexpr):
    """What `_decode` gathers from: the table, or four copies of it, each value beside itself."""
    if DECODE == "gather4":
        entries = tl.load(table + tl.arange(0, 1024) // 4)
    else:
        entries = tl.load(table + tl.arange(0, 256))
    return entries


@triton.jit
def _decode(q, column, table, lines, entries, SIZE: tl.constexpr, DECODE: tl.constexpr):
    """q (R, C) uint8, SIZE in all, in columns (C,) -> code[q] float32, by one of four ways.

    "load" goes through the first-level cache, "gather" through shared memory, where lanes wait for each other at its 32
    banks, "gather4" through four copies there, of which neighbouring lanes (16 columns each) take different ones;
    "lines" computes, with "lines_first" for a table whose first value is apart.
    """
    index = q.to(tl.int32)
    if DECODE == "load":
        value = tl.load(table + index)
    elif DECODE == "gather" or DECODE == "gather4":
        if DECODE == "gather4":
            index = index * 4 + ((column >> 4) & 3)[None, :]
        value = tl.reshape(tl.gather(entries, tl.reshape(index, [SIZE]), 0), q.shape)
    else:
        # 2^23 + q, less 2^23 + 127: exact, and cheaper than a conversion
        v = (index | 0x4B000000).to(tl.float32, bitcast=True) - 8388735.0
        octave = ((tl.abs(v) + 0.5).to(tl.int32, bitcast=True) >> 23) - 126
        line = tl.load(lines + octave)
        slope = line.to(tl.int32).to(tl.float32, bitcast=True)
        offset = (line >> 32).to(tl.int32)
        sign = v.to(tl.int32, bitcast=True) & -0x80000000
        value = tl.fma(slope, v, (offset ^ sign).to(tl.float32, bitcast=True))
        if DECODE == "lines_first":
            value = tl.where(index == 0, tl.load(table), value)
    return value


@triton.jit
def dequantize(codes, absmax, table, out, count, BLOCK_LOG2: tl.constexpr, SIZE: tl.constexpr):
    """codes (count,) -> out (count,), rounded once from float32."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    value = tl.load(table + tl.load(codes + at, mask=inside, other=0).to(tl.int32))
    value *= tl.load(absmax + (at >> BLOCK_LOG2), mask=inside, other=0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def embedding(ids, codes, absmax, table, out, height, width, BLOCK_LOG2: tl.constexpr, SIZE: tl.constexpr):
    """Row ids[program 0] of codes (height, width), SIZE columns of it; NaN where there is no such row."""
    place = tl.program_id(0).to(tl.int64)
    row = tl.load(ids + place).to(tl.int64)
    known = (row >= 0) & (row < height)
    column = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    inside = column < width
    at = tl.where(known, row, 0) * width + column
    value = tl.load(table + tl.load(codes + at, mask=inside, other=0).to(tl.int32))
    value *= tl.load(absmax + (at >> BLOCK_LOG2), mask=inside, other=0.0)
    value = tl.where(known, value, float("nan"))
    tl.store(out + place * width + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def matvec(
    x,
    codes,
    absmax,
    table,
    lines,
    bias,
    y,
    n_out,
    n_in,
    BLOCK_LOG2: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SHARED: tl.constexpr,
    SPAN: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DECODE: tl.constexpr,
):
    """y (N,) = W x + bias; a program has HEIGHT rows. With SHARED, K is a multiple of SPAN and SPAN one of WIDTH."""
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    start = row.to(tl.int64) * n_in
    stored = row < n_out
    total = tl.full([HEIGHT], 0.0, tl.float32)
    entries = _entries(table, DECODE)
    if SHARED:
        for span in range(0, n_in, SPAN):
            part = tl.full([HEIGHT, WIDTH], 0.0, tl.float32)
            for first in range(0, SPAN, WIDTH):
                column = span + first + tl.arange(0, WIDTH)
                q = tl.load(codes + (start[:, None] + column[None, :]), mask=stored[:, None], other=0)
                value = _decode(q, column, table, lines, entries, HEIGHT * WIDTH, DECODE)
                activations = tl.load(x + column).to(tl.float32)[None, :]
                part = tl.fma(value, tl.broadcast_to(activations, [HEIGHT, WIDTH]), part)
            scale = tl.load(absmax + ((start + span) >> BLOCK_LOG2), mask=stored, other=0.0)
            total += tl.reduce(part, 1, _add) * scale
    else:
        part = tl.full([HEIGHT, WIDTH], 0.0, tl.float32)
        for first in range(0, n_in, WIDTH):
            column = first + tl.arange(0, WIDTH)
            at = start[:, None] + column[None, :]
            inside = stored[:, None] & (column < n_in)[None, :]
            q = tl.load(codes + at, mask=inside, other=0)
            value = _decode(q, column, table, lines, entries, HEIGHT * WIDTH, DECODE)
            value *= tl.load(absmax + (at >> BLOCK_LOG2), mask=inside, other=0.0)
            activations = tl.load(x + column, mask=column < n_in, other=0.0).to(tl.float32)[None, :]
            part = tl.fma(value, tl.broadcast_to(activations, [HEIGHT, WIDTH]), part)
        total = tl.reduce(part, 1, _add)
    if HAS_BIAS:
        total += tl.load(bias + row, mask=stored, other=0.0).to(tl.float32)
    tl.store(y + row, total.to(y.dtype.element_ty), mask=stored)


@triton.jit
def multiply(
    x,
    codes,
    absmax,
    table,
    lines,
    bias,
    y,
    n_rows,
    n_out,
    n_in,
    terms_each,
    BLOCK_LOG2: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BACKWARD: tl.constexpr,
    SHARED: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    TERMS: tl.constexpr,
    DECODE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """y (splits, M, outputs) = x W^T + bias, or with BACKWARD x W.

    Program (i, j, s) has one tile, and the s-th part of its sum (`terms_each` terms, a multiple of TERMS). WIDEN is for
    the interpreter, whose dot takes bf16 for integers.
    """
    outputs, terms = n_out, n_in
    if BACKWARD:
        outputs, terms = n_in, n_out
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    row_start = row.to(tl.int64) * terms
    sums = tl.full([ROWS, OUTPUTS], 0.0, tl.float32)
    entries = _entries(table, DECODE)
    begin = tl.program_id(2) * terms_each
    for first in range(begin, min(begin + terms_each, terms), TERMS):
        term = first + tl.arange(0, TERMS)
        inside = (row < n_rows)[:, None] & (term < terms)[None, :]
        activations = tl.load(x + (row_start[:, None] + term[None, :]), mask=inside, other=0.0)
        n, k, k_first = output, term, first
        if BACKWARD:
            n, k, k_first = term, output, tl.program_id(1) * OUTPUTS
        start = n.to(tl.int64) * n_in
        at = start[:, None] + k[None, :]
        stored = (n < n_out)[:, None] & (k < n_in)[None, :]
        q = tl.load(codes + at, mask=stored, other=0)
        weight = _decode(q, k, table, lines, entries, OUTPUTS * TERMS, DECODE)
        if SHARED:
            weight *= tl.load(absmax + ((start + k_first) >> BLOCK_LOG2), mask=n < n_out, other=0.0)[:, None]
        else:
            weight *= tl.load(absmax + (at >> BLOCK_LOG2), mask=stored, other=0.0)
        weight = weight.to(x.dtype.element_ty)
        if WIDEN:
            activations, weight = activations.to(tl.float32), weight.to(tl.float32)
        if not BACKWARD:
            weight = tl.trans(weight)
        sums = tl.dot(activations, weight, sums, input_precision="ieee")
    if HAS_BIAS:
        sums += tl.load(bias + output, mask=output < outputs, other=0.0).to(tl.float32)[None, :]
    place = (tl.program_id(2).to(tl.int64) * n_rows + row) * outputs
    written = (row < n_rows)[:, None] & (output < outputs)[None, :]
    tl.store(y + (place[:, None] + output[None, :]), sums.to(y.dtype.element_ty), mask=written)


@triton.jit
def add_splits(parts, bias, y, count, outputs, splits, HAS_BIAS: tl.constexpr, SIZE: tl.constexpr):
    """parts (splits, count) float32 -> y (count,), added in the order of the parts."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    total = tl.full([SIZE], 0.0, tl.float32)
    for split in range(splits):
        total += tl.load(parts + split * count + at, mask=inside, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + at % outputs, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)
