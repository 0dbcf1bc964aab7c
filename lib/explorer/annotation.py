"""What a task knows of each node of a search tree: its state, the truth, and what was wrong.

Takes a search tree, its problem and the task; gives one Note a node, and the Labels beside the
tree. Knows nothing of models, positions or drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.search.tree import Node, SearchTree
from lib.tasks.task import VERDICT_THRESHOLD, Grid, Task


@dataclass(frozen=True)
class Note:
    """One node, in the task's words.

    `state` is None after a step that is not legal; `reason` says why it is not or, of a finished
    path, why the strict check fails it (`error` is the paper's name for that). `reachable` is None
    where the task has no solver; `wrong` is whether the model's verdict here is; `truth` says both.
    """

    state: str | None
    reachable: bool | None
    wrong: bool = False
    truth: str = ""
    correct: bool | None = None
    error: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Labels:
    """What the view says beside its tree; all of it may be empty."""

    title: str = ""  # the problem on one line
    made: str = ""  # model, breadth, depth, temperature, seed
    values: Mapping[str, str] = field(default_factory=dict)  # what the form said
    state_label: str = "State"
    step_example: str = ""
    goal: str = "the goal"
    grid: Grid | None = None  # how the states' lines are drawn, where they are a grid's rows
    warning: str = ""
    greedy: Mapping[str, Any] | None = None  # steps, correct, note


def annotate(tree: SearchTree, problem: Any, task: Task) -> list[Note]:
    """One note for each of `tree.nodes`, in their order."""
    steps: list[tuple[str, ...]] = []
    notes = []
    for node in tree.nodes:
        before = () if node.parent is None else steps[node.parent]
        steps.append((*before, node.text) if node.kind == "step" else before)
        notes.append(_note(node, problem, steps[-1], task))
    return notes


def _note(node: Node, problem: Any, steps: tuple[str, ...], task: Task) -> Note:
    form, goal = task.form, task.form.goal(problem)
    state = form.state(problem, steps)
    response = "".join(step + task.step_end for step in steps)
    if node.kind == "goal":
        verdict = task.check(problem, response + node.text)
        reason = form.reason(problem, response + node.text)
        found = (verdict.correct, verdict.error, reason)
        return Note(state, verdict.correct, not verdict.correct, "", *found)
    can_reach = None if task.solver is None else task.solver.reachable(problem, steps)
    if can_reach is None or node.kind == "limit":
        return Note(state, can_reach)
    if node.kind == "backtrack":
        if len(node.tokens) > 1:
            return Note(state, can_reach, truth="took back an unfinished step")
        early = f"gave up too early: {goal} was in reach"
        return Note(state, can_reach, can_reach, early if can_reach else "right to go back")
    gives_up = None if node.p_backtrack is None else node.p_backtrack >= VERDICT_THRESHOLD
    truth = f"{goal} is in reach" if can_reach else f"{goal} is out of reach"
    if gives_up == can_reach:
        truth += ", and the model would rather " + ("step back" if gives_up else "go on")
    reason = ""
    if state is None:
        reason = "a step before it was not"
        if form.state(problem, steps[:-1]) is not None:
            reason = form.reason(problem, response)
    return Note(state, can_reach, gives_up == can_reach, truth, reason=reason)


def judge_answer(task: Task, problem: Any, response: str) -> dict[str, Any]:
    """One response on its own: its steps, whether it is right, and where it lost the goal."""
    verdict = task.check(problem, response)
    steps = response.split(task.step_end)[:-1]
    if verdict.correct:
        return {"steps": steps, "correct": True, "note": "✓ right"}
    note = f"✕ {task.form.reason(problem, response) or verdict.error}"
    for place, step in enumerate(steps):
        if task.solver is None or task.solver.reachable(problem, steps[: place + 1]):
            continue
        if task.form.state(problem, steps[: place + 1]) is not None:
            note += f"; from {step} on, {task.form.goal(problem)} was out of reach"
        break
    return {"steps": steps, "correct": False, "note": note}


def make_labels(
    task: Task, problem: Any, values: Mapping[str, str], greedy: str, known: Task | None
) -> Labels:
    """What the view says beside a tree that the form's `values` asked for.

    greedy: the response of greedy decoding. known: the task with the settings that the checkpoint
    was trained with, if it is known.
    """
    form = task.form
    outside = known.form.outside(problem) if known else ""
    again = " with N each" if values["per_state"] == "N each" and values["depth"] != "0" else ""
    return Labels(
        title=form.title(problem),
        made=f"{values['checkpoint']}, N = {values['breadth']}, b = {values['depth']}{again}, "
        f"T = {values['temperature']}, seed {values['seed']}",
        values=values,
        state_label=form.state_label,
        step_example=form.step_example,
        goal=form.goal(problem),
        grid=task.grid,
        warning=outside and f"Not what this checkpoint was trained on: {outside}. Expect errors.",
        greedy=judge_answer(task, problem, greedy),
    )
