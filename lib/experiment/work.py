"""Work: how much training and sampling an artifact will take, in examples and tokens by model.

Takes numbers of problems, samples and roll-backs; gives tokens that nothing is shared with, about.
Knows nothing of how long anything takes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: Samples of a trained model share most of their first tokens: what N of them cost, in tokens that
#: nothing is shared with, fitted to the searches of a whole `cpu` run at N = 2 to 64 (within 20%).
SHARED, EXPONENT = 54, 0.56
#: What b = 1 adds, by the samples of a rolled-back state; each further level adds a third of it.
ROLL_BACK = {"sqrt": 0.35, "breadth": 0.75}
#: With N beams a rolled-back state it is so much of N: independent samples draw again what was
#: computed before, and beams are others (measured at N = 8 and 32).
ROLL_BACK_OF_BEAMS = 1 / 8
#: What beams cost beside as many independent samples: measured there too.
EXPANSION_COST = {"sample": 1.0, "beam_sample": 2.5, "stochastic_beam": 2.0}
#: Of each beam of beam search, which share nothing: measured at 4, 8 and 16 beside greedy decoding.
BEAM_SEARCH_COST, LONG_RESPONSE_COST = 1.5, 2.0
FORWARD = 1 / 3  # of a training example's work


@dataclass
class Work:
    """Examples to train on (a forward pass alone is a part of one) and tokens to sample, by model.

    spent: the seconds that the rest took, which is done.
    """

    examples: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    spent: float = 0.0

    def add(self, other: Work) -> None:
        """This and the other."""
        for mine, theirs in ((self.examples, other.examples), (self.tokens, other.tokens)):
            mine.update({model: count for model, count in theirs.items() if count})
        self.spent += other.spent

    def models(self) -> set[str]:
        """The names of the models that it is of."""
        return {*self.examples, *self.tokens}


NO_WORK = Work()


def training(model: str, examples: float) -> Work:
    """So many examples to train a model on."""
    return Work(examples=Counter({model: examples}))


def sampling(model: str, tokens: float) -> Work:
    """So many tokens to sample from a model."""
    return Work(tokens=Counter({model: tokens}))


def search_tokens(
    problems: int, breadth: int, depth: int, expansion: str = "sample", per_state: str = "sqrt"
) -> float:
    """What a search costs, in sampled tokens that nothing is shared with, about."""
    added = ROLL_BACK[per_state]
    if per_state == "breadth" and expansion != "sample":
        added = ROLL_BACK_OF_BEAMS * breadth
    rolled_back = 1 + (added * (2 + depth) / 3 if depth else 0)
    each = SHARED * breadth**EXPONENT * rolled_back
    return problems * each * EXPANSION_COST[expansion]


def decoded_tokens(problems: int, beams: int) -> float:
    """Sampled tokens that cost as much as decoding these problems, about."""
    return search_tokens(problems, 1, 0) * (BEAM_SEARCH_COST * beams if beams > 1 else 1)


def model_of(name: str) -> str:
    """S or L: checkpoints are called after their model (`models/S-sft`)."""
    return name.rsplit("/", 1)[-1].split("-")[0]
