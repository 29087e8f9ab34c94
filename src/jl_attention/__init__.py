"""Sparse attention from random projections: constructions, bounds and checks.

A self-attention module with fixed parameters approximates any sparse attention matrix by changing
only its input. This package builds such inputs, says how large the hidden size has to be, and
measures what was built. It accompanies the book of the same name.
"""
