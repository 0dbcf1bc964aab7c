"""The story of a search: its phases, and one sentence for each of its steps.

Takes a session, its nodes' notes and the selection rules; gives plain data: phases (expand,
roll-back 1 to b, select; searches further on and own steps where there are any) and steps. Knows
nothing of positions or drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lib.explorer.annotation import Note
from lib.explorer.session import FURTHER, PLAYED, Session, one_step_back, state_steps
from lib.explorer.words import percent, times
from lib.search.tree import Node
from lib.tasks.task import VERDICT_THRESHOLD


@dataclass(frozen=True)
class Rule:
    """A selection rule: its names, each finished path's score by leaf id, and the chosen leaf."""

    name: str
    title: str
    scores: Mapping[int, float]
    chosen: int | None
    phrase: str = ""  # its score within a sentence
    tip: str = ""


@dataclass(frozen=True)
class Story:
    """A session in words; `state_label` is the task's word for what a state shows."""

    session: Session
    notes: Sequence[Note]
    state_label: str = "State"
    title: str = ""
    phases: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    #: A `<backtrack>` leaf and the state that it leads back to, where that is expanded again.
    returns: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for part in range(len(self.session.parts)):
            self._tell_part(part)
        self._phase("select", "Select")
        self._say("One of the finished paths is chosen.")
        for index, phase in enumerate(self.phases):
            own = [i for i, step in enumerate(self.steps) if step["phase"] == index]
            phase |= {"first": own[0] if own else len(self.steps), "count": len(own)}

    # Phases ----------------------------------------------------------------------------------

    def _phase(self, kind: str, title: str, part: int | None = None) -> None:
        self.phases.append({"kind": kind, "title": title, "part": part})

    def _tell_part(self, index: int) -> None:
        part = self.session.parts[index]
        for level in range(part.depth + 1):
            states = [state for state, at in part.expanded if at == level]
            if part.kind == PLAYED:
                self._phase("played", "Your step", index)
            elif level:
                self._phase("rollback", f"Roll-back {level}", index)
                self._say(self._roll_back(index, level, states), states)
                self._lead_back(index, level, states)
            elif part.kind == FURTHER:
                self._phase("further", "Searched on", index)
                count = times(self.session.continuations(part.start, index), "more continuation")
                self._say(f"{count} of {self.place(part.start)} sampled.", [part.start])
            else:
                self._phase("expand", "Expand", index)
            for node in self._found(index, level):
                self._say(self.sentence(self.session.tree.nodes[node]), [], node)

    def _say(self, text: str, states: Sequence[int] = (), node: int | None = None) -> None:
        step = {"phase": len(self.phases) - 1, "node": node, "text": text, "states": list(states)}
        self.steps.append(step)

    def _found(self, part: int, level: int) -> list[int]:
        """The nodes of a level as they are shown: all samples side by side, column by column."""
        session = self.session
        found = [
            node.id
            for node in session.tree.nodes
            if session.part_of[node.id] == part and node.level == level
        ]
        return sorted(found, key=lambda id_: (self.depths[id_], id_))

    def _roll_back(self, part: int, level: int, states: list[int]) -> str:
        if not states:
            return "No <backtrack> leads to a state that was not expanded yet: nothing is sampled."
        counts = sorted({self.session.continuations(state, part) for state in states})
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        names = ", ".join(self.place(state) for state in states[:4])
        more = f" and {len(states) - 4} more" if len(states) > 4 else ""
        one, each = len(states) == 1, "" if len(states) == 1 else " each"
        return (
            f"{times(len(states), 'state')},{each} one step back from a <backtrack>, "
            f"{'is' if one else 'are'} expanded again with {number} continuations{each}: "
            f"{names}{more}."
        )

    def _lead_back(self, part: int, level: int, states: list[int]) -> None:
        wanted = {state: True for state in states}  # the first arrow to a state stays in sight
        for node in self.session.tree.nodes:
            before = (self.session.part_of[node.id], node.level) < (part, level)
            if node.kind != "backtrack" or not before:
                continue
            state = one_step_back(self.session, node)
            if state in wanted:
                arrow = {"phase": len(self.phases) - 1, "from": node.id, "to": state}
                self.returns.append(arrow | {"main": wanted[state]})
                wanted[state] = False

    # Sentences -------------------------------------------------------------------------------

    def place(self, state: int) -> str:
        """A state's name within a sentence."""
        return f"after {self.session.tree.nodes[state].text}" if state else "the question"

    def found(self, node: Node) -> str:
        """When a node was found."""
        part = self.session.parts[self.session.part_of[node.id]]
        if part.kind == PLAYED:
            return "a step of your own"
        first = f"the search on {self.place(part.start)}" if part.kind == FURTHER else ""
        if not node.level:
            return first or "the first expansion"
        return f"{first}{', ' if first else ''}roll-back {node.level}"

    def sentence(self, node: Node) -> str:
        """What happened at a node."""
        if node.parent is None:
            count = times(self.session.continuations(0, 0), "continuation")
            heat = f"temperature {self.session.tree.temperature:g}"
            return f"The question: {self.title}. {count} of it are sampled side by side, at {heat}."
        parent = self.session.tree.nodes[node.parent]
        after = f"After {parent.text}" if node.parent else "At the question itself"
        if node.kind == "step":
            step = f"{self._origin(node, parent)}: {node.text}{self._often(node)}"
            return f"{step}. {self._state(node)}"
        if node.kind == "limit":
            return f"{after}, the sample is cut off: it reached the limit of tokens."
        if node.kind == "goal":
            note = self.notes[node.id]
            said = "Right." if note.correct else f"Wrong: {note.reason or note.error}."
            told = f"{after}, the model stops. {said}"
            if node.id == self.first_right and node.level:
                told += " The first right path, and it took a roll-back to find it."
            return told
        p = math.exp(node.logprobs[-1]) if node.logprobs else 1.0
        where = after if len(node.tokens) <= 1 else f"{after}, in the middle of a step"
        luck = "" if p >= VERDICT_THRESHOLD else ", so it came by chance"
        return (
            f"{where}, <backtrack> is sampled{self._often(node)}. The model gives it {percent(p)} "
            f"there{luck}; this branch ends."
        )

    def _origin(self, node: Node, parent: Node) -> str:
        part = self.session.parts[self.session.part_of[node.id]]
        if part.kind == PLAYED:
            return f"Your own step, {self.place(parent.id)}"
        if (parent.id, node.level) not in part.expanded:
            return f"Sampled after {parent.text}" if node.parent else "Sampled from the question"
        again = node.level or part.kind == FURTHER
        return f"Sampled {'anew ' if again else ''}{self._from(parent.id)}"

    def _from(self, state: int) -> str:
        return self.place(state) if state else "from the question"

    def _often(self, node: Node) -> str:
        part = self.session.parts[self.session.part_of[node.id]]
        count = part.samples.get(node.id, 0)
        return f" ({times(count, 'sample')})" if count else ""

    def _state(self, node: Node) -> str:
        note = self.notes[node.id]
        if note.state is None:
            state = f"Not legal: {note.reason}"
        else:
            state = f"{self.state_label}: {' / '.join(note.state.splitlines())}"
        if node.p_backtrack is None:
            return f"{state}."
        return f"{state}; the model gives <backtrack> {percent(node.p_backtrack)} there."

    def choice(self, rule: Rule) -> str:
        """What a selection rule chose, and why."""
        if rule.chosen is None:
            return "No path was finished, so there is none to choose."
        leaf = self.session.tree.nodes[rule.chosen]
        steps = ", ".join(state_steps(self.session.tree, leaf.id))
        count, score = len(rule.scores), f"{rule.scores[leaf.id]:.3f}".rstrip("0").rstrip(".")
        why = f"its {rule.phrase}, {score}, is the highest of {count} finished paths"
        if count == 1:
            why = f"it is the only finished path; its {rule.phrase} is {score}"
        note = self.notes[leaf.id]
        verdict = "It is right." if note.correct else f"It is wrong: {note.reason or note.error}."
        return f"Chosen: {steps}, because {why}. Found in {self.found(leaf)}. {verdict}"

    # Facts -----------------------------------------------------------------------------------

    @cached_property
    def depths(self) -> list[int]:
        """The number of edges from the root to each node."""
        depths: list[int] = []
        for node in self.session.tree.nodes:
            depths.append(0 if node.parent is None else depths[node.parent] + 1)
        return depths

    @cached_property
    def first_right(self) -> int | None:
        """The first finished path that is right, in the order of the story."""
        nodes = self.session.tree.nodes
        right = [node for node in nodes if node.kind == "goal" and self.notes[node.id].correct]
        part_of, depths = self.session.part_of, self.depths
        found = [(part_of[node.id], node.level, depths[node.id], node.id) for node in right]
        return min(found)[-1] if found else None
