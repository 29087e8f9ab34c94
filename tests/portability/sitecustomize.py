"""Python imports this at the start of every process: it makes the process another machine.

JL_MACHINE is the seed of the perturbation, or "watch"; see `perturbed`.
"""

import os

if os.environ.get("JL_MACHINE"):
    import perturbed

    perturbed.install(os.environ["JL_MACHINE"])
