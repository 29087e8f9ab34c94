"""The book's own: its claims and their ledger, its figures, data and long searches.

`jl_attention` is the library, and needs none of this. Nothing here is a stable interface.
"""
