"""Settings of the studies: instruments, compute, hypotheses and the sweep; checked on their own.

Takes a profile's optional sections; knows nothing of how a study is done, nor of profiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lib.base.errors import UserError
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import EXPANSIONS


def _least(settings: object, bound: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not value >= bound:
            raise UserError(f"{name} = {value!r}: must be at least {bound}")


def _each(name: str, values: Iterable[float], least: float, above: bool = False) -> None:
    values = tuple(values)
    if not values:
        raise UserError(f"{name} = []: must not be empty")
    for value in values:
        if not (least < value if above else least <= value) or not value < math.inf:
            raise UserError(f"{name} = {value!r}: must be {'more than' if above else 'at least'} "
                            f"{least} each")  # fmt: skip


@dataclass(frozen=True)
class InstrumentSettings:
    """How many searches are taken apart; they are those of the tables, at the largest N."""

    problems: int  # of each test split: the first so many
    validation_problems: int  # on which the selection rule is chosen

    def __post_init__(self) -> None:
        _least(self, 1, "problems", "validation_problems")


@dataclass(frozen=True)
class ComputeSettings:
    """Accuracy against what it costs. Searches that a table has already are taken from there."""

    models: tuple[str, ...]
    problems: int  # of each test split
    breadths: tuple[int, ...]  # of independent samples: N of the SFT model, and of b = 0
    searches: tuple[tuple[int, ...], ...]  # further (N, b) of Self-Backtracking
    temperatures: tuple[float, ...]
    temperature_breadth: int
    beams: tuple[int, ...]

    def __post_init__(self) -> None:
        _least(self, 1, "problems", "temperature_breadth")
        for name in ("breadths", "beams"):
            _each(name, getattr(self, name), 1)
        for pair in self.searches:
            if len(pair) != 2 or pair[0] < 1 or pair[1] < 0:
                raise UserError(f"searches = {list(pair)!r}: must be pairs of N >= 1 and b >= 0")
        _each("temperatures", self.temperatures, 0, above=True)


@dataclass(frozen=True)
class HypothesisSettings:
    """Experiments that could close the gap between S and L at one N and b."""

    problems: int  # of each test split
    validation_problems: int  # on which the shift of <backtrack> is chosen
    breadth: int
    depth: int
    temperatures: tuple[float, ...]  # tried beside the profile's own (hypothesis a)
    oversampling: int  # samples drawn for each distinct one (hypothesis a)
    shifts: tuple[float, ...]  # of the <backtrack> logit, tried beside 0 (hypothesis b)
    loss_examples: int  # traces on which train and test loss are measured (hypothesis c)

    def __post_init__(self) -> None:
        _least(self, 1, "problems", "validation_problems", "breadth", "oversampling")
        _least(self, 1, "loss_examples")
        _least(self, 0, "depth")
        _each("temperatures", self.temperatures, 0, above=True)
        _each("shifts", self.shifts, -50)


@dataclass(frozen=True)
class SweepModel:
    """One of the sweep's two sizes."""

    hidden_size: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        _least(self, 1, "hidden_size", "layers", "heads")


@dataclass(frozen=True)
class SweepSettings:
    """Small models of two sizes over data size, epochs and learning rate (hypotheses c and e)."""

    task: dict[str, Any]  # the task's settings, easier than the profile's
    models: dict[str, SweepModel]
    trunk_examples: int  # D_op, once, from random weights: the sizes' stand-in for pretraining
    examples: tuple[int, ...]  # distinct examples of each branch
    epochs: tuple[int, ...]
    rates: tuple[float, ...]  # times the branch recipe's learning rates
    batch_size: int
    test_problems: int
    breadth: int
    depth: int

    def __post_init__(self) -> None:
        if set(self.models) != {"S", "L"}:
            raise UserError(f"models = {list(self.models)}: must be S and L")
        for name in ("examples", "epochs"):
            _each(name, getattr(self, name), 1)
        _each("rates", self.rates, 0, above=True)
        _least(self, 1, "trunk_examples", "batch_size", "test_problems", "breadth")
        _least(self, 0, "depth")


@dataclass(frozen=True)
class RatioSettings:
    """Tables 3 and 4: a branch of S for each D_op : D_back = 1 : ratio, all of one size."""

    ratios: tuple[float, ...]
    examples: int  # of each branch, D_op and D_back together
    problems: int  # of each test split
    breadths: tuple[int, ...]
    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        _least(self, 2, "examples")
        _least(self, 1, "problems")
        _each("ratios", self.ratios, 0, above=True)
        _each("breadths", self.breadths, 1)
        _each("depths", self.depths, 0)


@dataclass(frozen=True)
class AuditSettings:
    """What the published code does otherwise, switched on alone and together."""

    problems: int  # of each test split
    breadth: int
    depth: int
    examples: int  # of the two branches that differ in the loss on padding alone
    hard_cut: float  # a second, harder cut: this share of the longest problem's tokens

    def __post_init__(self) -> None:
        _least(self, 1, "problems", "breadth", "depth")
        _least(self, 2, "examples")
        if not 0 < self.hard_cut <= 1:
            raise UserError(f"hard_cut = {self.hard_cut}: must be more than 0 and at most 1")


@dataclass(frozen=True)
class MiningSettings:
    """D_back from the model's own wrong paths, against as many examples more of the usual kind."""

    problems: int  # training problems searched
    breadth: int
    temperature: float
    examples: int  # of each of the two branches, from the backtracking checkpoint on
    share: float  # of these that are mined; the rest are D_op and D_back of fresh problems
    test_problems: int  # of each test split: the first so many
    recipe: Recipe

    def __post_init__(self) -> None:
        _least(self, 1, "problems", "breadth", "examples", "test_problems")
        _each("temperature", [self.temperature], 0, above=True)
        if not 0 < self.share <= 1:
            raise UserError(f"share = {self.share}: must be more than 0 and at most 1")


@dataclass(frozen=True)
class ExpansionSettings:
    """Independent samples against beams, at the tokens that they generate."""

    models: tuple[str, ...]
    kinds: tuple[str, ...]  # of lib/search/expansion.py
    problems: int  # of each test split: the first so many
    breadths: tuple[int, ...]
    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        _least(self, 1, "problems")
        _each("breadths", self.breadths, 1)
        _each("depths", self.depths, 0)
        for kind in self.kinds:
            if kind not in EXPANSIONS:
                raise UserError(f"kinds = {list(self.kinds)}: choose from {', '.join(EXPANSIONS)}")
