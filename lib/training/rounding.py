"""Weights kept in bfloat16 with no float32 copy: rounded to a bfloat16 number after every step.

Takes what a Trainer tells its callbacks; gives, beside each loss that it logs, the share of weights
that the steps since the last one changed, before rounding and after it. Rounding acts on the
weights alone: products and AdamW's moments are those of any other training. Knows nothing of data.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

#: The shares, in the order in which they are counted.
CHANGED = ("changed_float32", "changed_bfloat16")


class RoundedWeights(TrainerCallback):
    """See above. Each update is counted twice: as float32 arithmetic gives it, and as rounded."""

    def __init__(self) -> None:
        self.before: list[torch.Tensor] = []
        self.changed, self.steps = torch.zeros(len(CHANGED)), 0

    @torch.no_grad()
    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: torch.nn.Module = None, **_: Any
    ) -> None:
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: torch.nn.Module = None, **_: Any
    ) -> None:
        self.before = [weight.detach().clone() for weight in model.parameters()]

    @torch.no_grad()
    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: torch.nn.Module = None, **_: Any
    ) -> None:
        total, changed = 0, torch.zeros(len(CHANGED))
        for weight, before in zip(model.parameters(), self.before, strict=True):
            exact = int((weight != before).sum())
            weight.copy_(weight.bfloat16())
            changed += torch.tensor([exact, int((weight != before).sum())])
            total += weight.numel()
        self.before, self.steps = [], self.steps + 1
        self.changed += changed / total

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs and self.steps:
            means = (self.changed / self.steps).tolist()
            state.log_history[-1].update(zip(CHANGED, means, strict=True))
            self.changed, self.steps = torch.zeros(len(CHANGED)), 0
