"""What accelerators can do, for a plan: peak speed, memory, and the share of the peak assumed.

Takes a name such as `h100` or `a100x4`; gives figures. Knows nothing of models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lib.errors import UserError

#: Of the peak. Training: short examples, ZeRO-2 traffic and padding included (without ZeRO-2,
#: models of 28 and 79 million parameters reach 26 to 38% on one H100). Search: one token at a time
#: for many rows, which reads the cache more than it multiplies.
TRAINING_UTILISATION = 0.30
SEARCH_UTILISATION = 0.05


@dataclass(frozen=True)
class Machine:
    """One accelerator: dense bfloat16 peak (no sparsity) and memory, by its maker's data sheet."""

    name: str
    peak_flops: float
    memory_gb: float


MACHINES = {
    "a100": Machine("NVIDIA A100 80GB", 312e12, 80),
    "a10g": Machine("NVIDIA A10G", 70e12, 24),
    "h100": Machine("NVIDIA H100 SXM", 989e12, 80),
    "h200": Machine("NVIDIA H200 SXM", 989e12, 141),
    "l40s": Machine("NVIDIA L40S", 362e12, 48),
    "rtx4090": Machine("NVIDIA RTX 4090", 165e12, 24),
}


def find_machine(hardware: str, count: int = 1) -> tuple[Machine, int]:
    """The accelerator and how many of it, from `h100` (`count` of them) or `h100x4`."""
    # A name may end in what looks like a count: the longest name that is known wins.
    names = "|".join(sorted(MACHINES, key=len, reverse=True))
    found = re.fullmatch(rf"({names})(?:x([1-9]\d*))?", hardware.lower())
    if not found:
        raise UserError(
            f"HARDWARE={hardware}: choose one of {', '.join(MACHINES)}, and how many: a100x4"
        )
    return MACHINES[found[1]], int(found[2] or count)
