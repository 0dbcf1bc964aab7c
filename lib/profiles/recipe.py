"""A recipe: how a model is trained, as a profile says it. Knows nothing of models or data.

Source: section 3.2 and appendix of the paper, whose values are the defaults.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from pydantic import StrictBool, model_validator

from lib.base.checked import Count, Mistake, Natural, NotNegative, Positive, checked, one_of

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "constant_with_warmup", "linear")
WEIGHTS = ("float32", "bfloat16")
#: Keys that came later, with the values that leave an artifact's inputs as they were.
LATER_KEYS = {"packing": False, "weights": "float32"}


@checked
class Recipe:
    """How to train. One epoch over the traces given; batch_size is the global one, in examples."""

    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "adamw"
    learning_rate: Positive = 1e-5
    adamw_learning_rate: Positive = 1e-5  # of what Muon leaves to AdamW
    weight_decay: NotNegative = 0.01
    schedule: Annotated[str, one_of(SCHEDULES)] = "cosine"
    warmup_steps: Natural = 1
    batch_size: Count = 16
    epochs: Positive = 3.0
    max_grad_norm: NotNegative = 1.0
    verdict_weight: NotNegative = 1.0
    save_steps: Count = 200
    compile: StrictBool = False
    packing: StrictBool = False  # several examples in a row, with no attention between them
    #: What each step leaves of the weights: "bfloat16" rounds them, and there is no float32 copy.
    weights: Annotated[str, one_of(WEIGHTS)] = "float32"
    #: The audit's switch: padding carries loss, as published. No profile can set it.
    padding_loss: ClassVar[bool] = False

    def inputs(self) -> dict[str, Any]:
        """The recipe as an artifact's inputs.

        A key that came later is left out where it has its default: it must not change the keys of
        what was made before.
        """
        settings = asdict(self)
        return {k: v for k, v in settings.items() if k not in LATER_KEYS or v != LATER_KEYS[k]}

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        if self.packing and self.padding_loss:
            raise Mistake("padding_loss = true: not with packing, which leaves little padding")
        if self.weights != "float32" and self.optimizer != "adamw":
            raise Mistake(f"weights = {self.weights!r}: with optimizer = 'adamw' alone")
        return self


@checked
class PaddingLossRecipe(Recipe):
    """A recipe with that switch on; an artifact's inputs must name it themselves."""

    padding_loss: ClassVar[bool] = True
