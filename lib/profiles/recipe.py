"""A recipe: how a model is trained, as a profile says it. Knows nothing of models or data.

Source: section 3.2 and appendix of the paper, whose values are the defaults.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lib.base.errors import UserError

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "constant_with_warmup", "linear")
#: Keys that came later, with the values that leave an artifact's inputs as they were.
LATER_KEYS = {"packing": False}


@dataclass(frozen=True)
class Recipe:
    """How to train. One epoch over the traces given; batch_size is the global one, in examples."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-5
    adamw_learning_rate: float = 1e-5  # of what Muon leaves to AdamW
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup_steps: int = 1
    batch_size: int = 16
    epochs: float = 3.0
    max_grad_norm: float = 1.0
    verdict_weight: float = 1.0
    save_steps: int = 200
    compile: bool = False
    packing: bool = False  # several examples in a row, with no attention between them
    #: The audit's switch: padding carries loss, as published. No profile can set it.
    padding_loss: ClassVar[bool] = False

    def inputs(self) -> dict[str, Any]:
        """The recipe as an artifact's inputs.

        A key that came later is left out where it has its default: it must not change the keys of
        what was made before.
        """
        settings = asdict(self)
        return {k: v for k, v in settings.items() if k not in LATER_KEYS or v != LATER_KEYS[k]}

    def __post_init__(self) -> None:
        for key, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, key) not in choices:
                value = getattr(self, key)
                raise UserError(f"{key} = {value!r}: choose one of {', '.join(choices)}")
        if self.packing and self.padding_loss:
            raise UserError("padding_loss = true: not with packing, which leaves little padding")
        least = {"batch_size": 1, "save_steps": 1, "weight_decay": 0, "warmup_steps": 0}
        least |= {"max_grad_norm": 0, "verdict_weight": 0}
        for key, bound in least.items():
            if not bound <= getattr(self, key) < math.inf:
                raise UserError(f"{key} = {getattr(self, key)}: must be at least {bound}")
        for key in ("learning_rate", "adamw_learning_rate", "epochs"):
            if not 0 < getattr(self, key) < math.inf:
                raise UserError(f"{key} = {getattr(self, key)}: must be more than 0")


@dataclass(frozen=True)
class PaddingLossRecipe(Recipe):
    """A recipe with that switch on; an artifact's inputs must name it themselves."""

    padding_loss: ClassVar[bool] = True
