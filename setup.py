"""Compiles the CPU kernels where there is a C compiler; without one the package installs and runs all the same."""

from setuptools import Extension, setup

SOURCES = (
    *("linear", "linear_amx", "linear_amx_backward", "linear_vbmi", "linear_avx512", "linear_avx2"),
    *("decades", "storage", "storage_vbmi", "attention", "attention_amx", "rows", "blocks", "pages"),
)
# no contraction: quantise and dequantise equal the reference bit for bit; no trapping: a loop that compares floats may
# go in vectors
FLAGS = ("-O3", "-std=gnu17", "-fopenmp", "-ffp-contract=off", "-fno-trapping-math")

setup(
    ext_modules=[
        Extension(
            "model.kernels._dynamic8",
            sources=[f"model/kernels/{name}.c" for name in SOURCES],
            depends=[
                f"model/kernels/{name}.h"
                for name in ("dynamic8", "linear", "linear_decades", "linear_planes", "linear_tiles")
            ],
            extra_compile_args=[*FLAGS, "-Wall", "-Wpointer-arith"],
            extra_link_args=["-fopenmp"],
            libraries=["m"],
            optional=True,
        )
    ]
)
