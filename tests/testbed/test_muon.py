"""Our Muon takes the library's steps, in float32."""

from __future__ import annotations

import pytest
import torch

from benchmarks.testbed.muon import Muon


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch is older than 2.9")
@pytest.mark.parametrize("shape", [(128, 128), (512, 128), (128, 512)])
def test_steps_agree_to_the_librarys_rounding(shape: tuple[int, int]) -> None:
    """Its iterations are in bfloat16: about three digits. Momentum, Nesterov and scale show."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(3, *shape)
    moved = []
    for kind, options in ((Muon, {}), (torch.optim.Muon, {"weight_decay": 0.0})):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.006, **options)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        moved.append(weight.detach() - start)
    ours, theirs = moved
    assert ((ours - theirs).norm() / theirs.norm()).item() < 0.02
