"""What the Countdown task knows of each node of a search tree.

Takes a search tree and its problem; gives one Annotation a node: the numbers left, whether the
exact solver can still reach the target, and whether the model's verdict there is wrong. Knows
nothing of models, positions or drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib.countdown import Problem, check, reachable, remaining

# The model's verdict on a state is "step back" from this probability of <backtrack> on.
VERDICT_THRESHOLD = 0.5
LEAF_LABELS = {"goal": "goal", "backtrack": "backtrack", "limit": "cut off"}


@dataclass(frozen=True)
class Annotation:
    """`numbers` is None after an illegal step; `correct` is the strict check of a finished path."""

    label: str
    numbers: tuple[int, ...] | None
    reachable: bool
    wrong: bool
    correct: bool | None = None
    error: str | None = None


def annotate(tree: Any, problem: Problem) -> list[Annotation]:
    """One annotation for each of `tree.nodes`, in their order."""
    steps: list[tuple[str, ...]] = []
    annotations = []
    for node in tree.nodes:
        before = () if node.parent is None else steps[node.parent]
        steps.append((*before, node.text) if node.kind == "step" else before)
        annotations.append(_annotation(node, problem, steps[-1]))
    return annotations


def _annotation(node: Any, problem: Problem, steps: tuple[str, ...]) -> Annotation:
    left = remaining(problem.numbers, steps)
    can_reach = left is not None and reachable(left, problem.target)
    if node.kind in ("root", "step"):
        label = "not legal" if left is None else ", ".join(map(str, left))
        verdict = None if node.p_backtrack is None else node.p_backtrack >= VERDICT_THRESHOLD
        return Annotation(label, left, can_reach, verdict is not None and verdict == can_reach)
    label = LEAF_LABELS[node.kind]
    if node.kind == "backtrack":
        return Annotation(label, left, can_reach, wrong=can_reach)
    if node.kind == "limit":
        return Annotation(label, left, can_reach, wrong=False)
    verdict = check(problem, "".join(f"{step}\n" for step in steps) + node.text)
    return Annotation(label, left, can_reach, not verdict.correct, verdict.correct, verdict.error)
