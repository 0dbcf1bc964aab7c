"""Muon for the weight matrices and AdamW for the rest, as one optimizer.

Takes a model and learning rates; gives a `torch.optim.Optimizer` that Trainer, its schedulers and
its checkpoints work with. Knows nothing of data or losses. In place of `torch.optim.Muon`, which
has no AdamW for the rest and is ten times slower on a processor without bfloat16 units. Source:
Jordan et al. 2024 (Muon), Liu et al. 2025 (its step scaled to AdamW's).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from lib.base import hardware

COEFFICIENTS = 3.4445, -4.7750, 2.0315


def orthogonalise(gradients: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration: the nearest (semi-)orthogonal matrices, roughly.

    gradients: [batch, rows, columns], rows <= columns. In bfloat16 where the processor computes
    it in hardware and float32 elsewhere: `torch.optim.Muon` hard-codes bfloat16, which makes a
    step ten times slower on a processor without such units.
    """
    a, b, c = COEFFICIENTS
    dtype = torch.bfloat16 if hardware.has_bfloat16(gradients.device.type) else torch.float32
    matrix = gradients.to(dtype)
    matrix = matrix / matrix.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if _gram_alone(dtype, *matrix.shape[1:]):
        return _iterated_on_gram(matrix, steps).to(gradients.dtype)
    for _ in range(steps):
        gram = matrix @ matrix.mT
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        matrix = torch.baddbmm(matrix, update, matrix, beta=a)
    return matrix.to(gradients.dtype)


def _gram_alone(dtype: torch.dtype, rows: int, columns: int) -> bool:
    return dtype == torch.float32 and columns >= 2 * rows


def orthogonalise_flops(rows: int, columns: int, dtype: torch.dtype, steps: int = 5) -> int:
    """Floating-point operations of `orthogonalise` on one matrix, rows <= columns."""
    cube, wide = 2 * rows**3, 2 * rows**2 * columns
    if _gram_alone(dtype, rows, columns):
        return (4 * steps - 3) * cube + 2 * wide
    return steps * (cube + 2 * wide)


def _iterated_on_gram(matrix: Tensor, steps: int) -> Tensor:
    """The same iteration, on the small Gram matrices alone: a third less work for wide matrices.

    Each step multiplies the matrix by a polynomial of its Gram matrix. These all commute, so that
    they are multiplied with each other first. Rounding in bfloat16 would spoil that.
    """
    a, b, c = COEFFICIENTS
    gram, product = matrix @ matrix.mT, None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ (gram @ factor)
    return product @ matrix


def _flipped(matrices: Sequence[Tensor], flips: Sequence[bool]) -> list[Tensor]:
    return [m.mT if flip else m for m, flip in zip(matrices, flips, strict=True)]


class MuonAdamW(torch.optim.Optimizer):
    """Muon on 2-D weights outside the embeddings, AdamW on everything else."""

    def __init__(
        self,
        model: torch.nn.Module,
        learning_rate: float,
        adamw_learning_rate: float,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        matrices, rest = [], []
        embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
        for parameter in model.parameters():
            is_matrix = parameter.ndim == 2 and id(parameter) not in embeddings
            (matrices if is_matrix else rest).append(parameter)
        shared = {"weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": learning_rate, "muon": True, **shared},
            {"params": rest, "lr": adamw_learning_rate, "muon": False, **shared},
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._muon(parameters, group)
            else:
                self._adamw(parameters, group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        # Weights of one shape go through the iteration together: far fewer, larger products.
        shapes: dict[tuple[int, int], list[tuple[Tensor, bool]]] = defaultdict(list)
        for parameter in parameters:
            rows, columns = parameter.shape
            shapes[min(rows, columns), max(rows, columns)].append((parameter, rows > columns))
        momentum = group["momentum"]
        for (_, columns), members in shapes.items():
            for parameter, _ in members:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            # Of all together: a GPU would spend more on starting each than on doing it.
            weights = [parameter for parameter, _ in members]
            flips = [flipped for _, flipped in members]
            gradients = [parameter.grad for parameter in weights]
            momenta = [self.state[parameter]["momentum"] for parameter in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - momentum)
            directions = torch._foreach_lerp(gradients, momenta, momentum)
            updates = orthogonalise(torch.stack(_flipped(directions, flips)))
            # An orthogonal update's entries have a root mean square of 1 / sqrt(columns): scaled
            # to the 0.2 that AdamW's usually have, learning rates of the two can be compared.
            size = group["lr"] * 0.2 * columns**0.5
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, _flipped(updates.unbind(), flips), alpha=-size)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        if parameters:
            states = [self.state[parameter] for parameter in parameters]
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=1e-8,
                maximize=False,
            )
