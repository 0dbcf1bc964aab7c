"""The explorer's words: the reading guide, and what each field, column and score means.

Takes nothing, or a task's sentence about itself; gives texts, the same for the widget, the shared
page, the figure and notebook 06. Knows nothing of a tree.
"""

from __future__ import annotations

FOUND_AGAIN = "found after a roll-back"

SCORES = {
    "mean_logprob": (
        "Mean log-prob. (paper)",
        "mean log-probability",
        "The sum of the log-probabilities of all the path's tokens, divided by how many they are: "
        "the paper's score. Nearer to 0 is better.",
    ),
    "min_logprob_step": (
        "Least probable step",
        "least probable step",
        "The log-probability of the path's least probable step: a path is as good as its weakest "
        "step.",
    ),
    "vote": (
        "Votes",
        "number of samples",
        "How many samples of the search took this path.",
    ),
    "self_verification": (
        "Log P(keep)",
        "log-probability of never saying <backtrack>",
        "The sum, over the path's states, of the logarithm of 1 - P(<backtrack>): how sure the "
        "model was, at every state, that it need not step back.",
    ),
    "combined": (
        "Mean log-prob. + P(keep)",
        "mean log-probability plus mean log P(keep)",
        "The mean log-probability plus the mean over the states of log(1 - P(<backtrack>)).",
    ),
}

TIPS = {
    "breadth": "N: how many continuations of the question are sampled, side by side.",
    "depth": "b: how often the search rolls back. 0 never goes back.",
    "per_state": "How many continuations a rolled-back state gets: √N, or N as in the paper.",
    "temperature": "T: 1 samples as the model's probabilities say; less prefers what is likely.",
    "seed": "Another seed draws other samples.",
    "checkpoint": "The model that searches: what ships in models/, and what runs made.",
    "samples": "How many samples of the first search took this path.",
    "found": "In the first expansion of the question, or after which roll-back.",
    "check": "The strict checker's word, which the model never sees. In brackets: the paper's name "
    "for the error.",
    "p_backtrack": "The probability that the model gives <backtrack> as the next token here.",
    "logprob": "The sum over this step's tokens of the logarithm of the probability that the model "
    "gives each, at T = 1.",
    "greedy": "One pass: always the most probable token, no samples, no way back.",
    "search": "What the search chose, by the rule in the menu “Chosen by”.",
}

GUIDE = (
    (
        "What is drawn",
        "The question is on the left. A box is a state: what is left after the steps so far; the "
        "text before it is the step that led there. N samples of the question are drawn side by "
        "side: branches are not tried one after another. Samples that begin alike share a branch.",
    ),
    (
        "<backtrack>",
        "A word that the model has learned to write after a step that it regrets; a sample ends "
        "there. A box's colour is P(<backtrack>), the probability that the model gives this word "
        "as the next one in that state: blue, go on; orange, step back. What happens is drawn by "
        "chance: at 20% it comes up once in five samples.",
    ),
    (
        "Breadth N, level 0",
        "First the question is expanded: N continuations of it are sampled. What they find is "
        "level 0.",
    ),
    (
        "Roll-back, depth b, level 1 to b",
        "Then every <backtrack> leads one step back, to the state before the regretted step. At "
        "most √N of these states, the most visited first, are expanded again, each with √N "
        "continuations (or with N, as in the paper: the menu “Roll back with”). What that finds is "
        "level 1. This is repeated b times; with b = 0 the search never goes back.",
    ),
    (
        "Log-probability",
        "Of a step: the sum over its tokens of the natural logarithm of each one's probability. 0 "
        "is certain, -0.7 one chance in two, -2.3 one in ten. Of a path: the sum over its steps. "
        "Select a node to see how they add up.",
    ),
    (
        "Selection",
        "At the end one finished path is chosen, by its score alone; nothing checks it. The "
        "paper's score is the mean log-probability: the sum divided by the number of tokens. The "
        "table's column heads say what the other scores are.",
    ),
    (
        "Right or wrong",
        "A finished path is one after which the model stopped. ✓ or ✕ beside it is a checker's "
        "word. “Solver's truth” adds an exact solver's: ✓ the goal is in reach from this state, ✕ "
        "it is not; red where the model's own verdict is wrong. The search sees neither.",
    ),
)


def guide(about: str) -> list[tuple[str, str]]:
    """The reading guide: (term, meaning), the task's own sentence first."""
    return [("The task", about), *GUIDE]


def percent(p: float) -> str:
    """A probability in words."""
    return "under 1%" if p < 0.005 else "over 99%" if p > 0.995 else f"{100 * p:.0f}%"


def times(count: int, what: str) -> str:
    """`1 state`, `2 states`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
