"""A trace: text, and a mask that says which of its characters carry loss.

Takes the parts of a path; gives text, mask and kind. A mask has one character for each of the text:
"0" no loss, "1" loss, "2" a verdict (`<backtrack>` or the goal line), which training may weight.
Source: section 3.2 of the paper. Knows nothing of Countdown.
"""

from __future__ import annotations

from lib.base.errors import UserError
from lib.tasks.task import BACKTRACK

COLUMNS = ["text", "mask", "kind"]
LOSSES = ("paper", "honest")


def demand_loss(loss: str) -> None:
    """Raise `UserError` where `traces.loss` is none of LOSSES."""
    if loss not in LOSSES:
        raise UserError(f"traces.loss = {loss!r}: choose one of {', '.join(LOSSES)}")


def trace(kind: str, *parts: tuple[str, str]) -> dict[str, str]:
    """A trace of parts, each a text and the mask of its characters."""
    mask = "".join([code * len(text) for text, code in parts])
    return {"text": "".join([text for text, _ in parts]), "mask": mask, "kind": kind}


def right_trace(prompt: str, body: str, goal: str, kind: str) -> dict[str, str]:
    """A path that solves its problem: steps, each with its end, and the goal line."""
    return trace(kind, (prompt, "0"), (body, "1"), (goal, "2"))


def wrong_trace(
    prompt: str,
    prefix: str,
    choice: str,
    outcome: str,
    kind: str,
    loss: str,
    *,
    imitate: bool,
    exact: bool,
) -> dict[str, str]:
    """Steps, one erroneous step and `<backtrack>`.

    prefix: the steps before, to be learned where `imitate` says so. choice: operands, operator and
    `=`, never learned. outcome: its result and step end, learned under the loss `honest` where it
    is computed right (`exact`).
    """
    learned = "1" if loss == "honest" and exact else "0"
    return trace(
        kind,
        (prompt, "0"),
        (prefix, "1" if imitate else "0"),
        (choice, "0"),
        (outcome, learned),
        (BACKTRACK, "2"),
    )
