"""What one search is: everything that its trees depend on but the model and the questions.

Takes a profile's numbers; gives one frozen value that travels from the profile through the search
to the tree's file and the artifact's key. Knows nothing of models, tokens or tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from lib.base.errors import UserError

EXPANSIONS = ("sample", "beam_sample", "stochastic_beam")
#: Continuations of a rolled-back state: sqrt(N) (the cheaper way), or N (the paper's).
PER_STATE = ("sqrt", "breadth")
CHUNK_SIZE = 64


@dataclass(frozen=True)
class SearchSpec:
    """One search (the paper's section 3.3): breadth N, depth b, temperature T.

    `chunk` problems advance together on one random stream, so that trees depend on it.
    """

    breadth: int
    depth: int
    temperature: float = 0.7
    seed: int = 0
    expansion: str = "sample"
    per_state: str = "sqrt"
    chunk: int = CHUNK_SIZE

    def __post_init__(self) -> None:
        if self.breadth < 1 or self.depth < 0 or self.chunk < 1:
            raise UserError(
                f"search with breadth {self.breadth}, depth {self.depth}, chunk_size {self.chunk}: "
                "breadth and chunk_size must be 1 or more, depth 0 or more"
            )
        for name, choices in (("expansion", EXPANSIONS), ("per_state", PER_STATE)):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} {getattr(self, name)!r}: choose one of {choices}")

    @property
    def states(self) -> int:
        """At most so many rolled-back states are expanded at a level: sqrt(N)."""
        return max(1, math.isqrt(self.breadth))

    @property
    def continuations(self) -> int:
        """Of each rolled-back state."""
        return self.states if self.per_state == "sqrt" else self.breadth

    def settings(self) -> dict[str, Any]:
        """By name, as a tree and its file tell them: what is usual is not told."""
        told = {"breadth": self.breadth, "depth": self.depth}
        told |= {"temperature": self.temperature, "seed": self.seed}
        usual = SearchSpec(self.breadth, self.depth)
        later = {"expansion": self.expansion, "per_state": self.per_state}
        return told | {name: v for name, v in later.items() if v != getattr(usual, name)}

    @property
    def is_usual(self) -> bool:
        """Whether the four numbers say it all: independent samples, sqrt(N) of each state."""
        return (self.expansion, self.per_state) == (EXPANSIONS[0], PER_STATE[0])

    def inputs(self) -> dict[str, Any]:
        """As the inputs of an artifact's key."""
        return self.settings() | ({} if self.chunk == CHUNK_SIZE else {"chunk": self.chunk})

    def at(self, **changes: Any) -> SearchSpec:
        """The same search with these fields changed."""
        return replace(self, **changes)
