"""Matrix products in bfloat16, where they pay: takes a float32 model, gives it back with linear
layers that compute in bfloat16.

All else stays in float32: embeddings, norms, attention, the residual stream, keys and values, and
the output layer. The products are most of what decoding costs, and what processors with bfloat16
units do four times faster; the rest would gain little and lose digits. A logit in bfloat16 has
three digits: equal ones would be common, and every choice by probability would depend on them.
Knows nothing of who asks the model.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from lib import hardware

#: `search.precision` in a profile. `auto` is bfloat16 where it runs in hardware.
PRECISIONS = ("float32", "auto")


class BFloat16Linear(nn.Linear):
    """A linear layer with bfloat16 weights, which takes and gives what the layers around it do."""

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = _rounded(linear.weight)
        self.bias = None if linear.bias is None else _rounded(linear.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`, `[..., in]` to `[..., out]`."""
        return super().forward(input.bfloat16()).to(input.dtype)


def _rounded(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)


def with_fast_products(model: PreTrainedModel, precision: str) -> PreTrainedModel:
    """The model itself, for inference alone: with `auto` changed in place where its device has
    bfloat16 units, else as it was."""
    if precision != "auto" or not hardware.has_bfloat16(model.device.type):
        return model
    output = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not output:
                setattr(parent, name, BFloat16Linear(child))
    return model
