"""Compiles the CPU kernels where there is a C compiler; without one the package installs and runs all the same."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "model.kernels._dynamic8",
            sources=["model/kernels/linear.c", "model/kernels/storage.c"],
            depends=["model/kernels/dynamic8.h"],
            # no contraction: quantise and dequantise equal the reference bit for bit
            extra_compile_args=["-O3", "-std=c17", "-fopenmp", "-ffp-contract=off", "-Wall", "-Wpointer-arith"],
            extra_link_args=["-fopenmp"],
            libraries=["m"],
            optional=True,
        )
    ]
)
