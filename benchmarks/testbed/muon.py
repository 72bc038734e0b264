"""Muon in float32, all matrices of one shape at once.

The library's `torch.optim.Muon` orthogonalises one matrix at a time in bfloat16, which processors
without bfloat16 arithmetic emulate: 180 ms a step here against 50 ms for this. The update is the
same: Nesterov momentum, five Newton-Schulz iterations, scale by the aspect ratio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz; for matrices only."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                alike[min(p.shape), max(p.shape)].append(p)
            for params in alike.values():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    update = p.grad.lerp(buffer, group["momentum"])
                    updates.append(update if p.shape[0] <= p.shape[1] else update.T)
                for p, update in zip(params, orthogonal(torch.stack(updates)), strict=True):
                    scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                    update = update if p.shape[0] <= p.shape[1] else update.T
                    p.sub_(update, alpha=group["lr"] * scale)


def orthogonal(x: Tensor) -> Tensor:
    """Push the singular values of each matrix [n, rows, columns], rows <= columns, towards 1."""
    a, b, c = COEFFICIENTS
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
