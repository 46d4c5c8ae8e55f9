"""Compiles the CPU kernels where there is a C compiler; without one the package installs and runs all the same."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "model.kernels._dynamic8",
            sources=["model/kernels/linear.c", "model/kernels/storage.c"],
            depends=["model/kernels/dynamic8.h"],
            extra_compile_args=["-O3", "-std=c17", "-Wall", "-Wextra", "-Wpointer-arith", "-fopenmp", "-ffp-contract=off"],
            extra_link_args=["-fopenmp"],
            libraries=["m"],
            optional=True,
        )
    ]
)
