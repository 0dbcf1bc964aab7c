"""Matrix products in bfloat16, where they pay: takes a float32 model, gives it back with linear
layers that compute in bfloat16.

All else stays in float32: embeddings, norms, attention, the residual stream, keys and values. The
products are most of what decoding costs, and what processors with bfloat16 units do four times
faster; the rest would gain little and lose digits. Knows nothing of who asks the model.
"""

from __future__ import annotations

import torch
from torch import nn

from lib import hardware

#: `search.precision` in a profile. `auto` is bfloat16 where it runs in hardware.
PRECISIONS = ("float32", "auto")


class BFloat16Linear(nn.Linear):
    """A linear layer with bfloat16 weights, which takes and gives what the layers around it do."""

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # Parameters of their own: an output layer's may be tied to the embeddings.
        self.weight = _rounded(linear.weight)
        self.bias = None if linear.bias is None else _rounded(linear.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`, `[..., in]` to `[..., out]`."""
        return super().forward(input.bfloat16()).to(input.dtype)


def _rounded(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)


def with_fast_products(model: nn.Module, precision: str, device: str) -> nn.Module:
    """The model itself, for inference alone: with `auto` changed in place where `device` has
    bfloat16 units, else as it was."""
    if precision != "auto" or not hardware.has_bfloat16(torch.device(device).type):
        return model
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, BFloat16Linear(child))
    return model
