"""Arithmetic on 8-bit blockwise weights: one contract (`ops`), several implementations behind it."""
