"""One module a theorem: its construction, its required dimension, its failure probability."""
