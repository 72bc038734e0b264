"""One attention function for every model: how a probe gets to see, and change, what is attended to.

Every decoder whose attention goes through the transformers library's attention interface (Llama,
Qwen2, Qwen3, Mistral, ...) can be probed: one function is registered there, and it hands the
open probe each layer's query and key states, after rotary embedding and normalisation. So no
module is known by name. A model that does part of its attention elsewhere (recurrent or linear
layers, soft-capped scores, attention sinks) is refused with `EngineError`, not measured wrongly.

Not thread-safe for one model: while a probe is open, all its forward passes go through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tracelab.core.errors import EngineError

NAME = "tracelab_probe"
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "sinks")


class Probe(Protocol):
    """Sees each layer's attention before it is computed and returns the mask to use."""

    def __call__(
        self, layer: int, query: Any, key: Any, mask: Any, scaling: float
    ) -> torch.Tensor | None:
        """See one layer.

        Args:
            layer: From 0.
            query: [batch, heads, rows, width].
            key: [batch, key-value heads, keys, width]; the rows are the last of the keys.
            mask: Boolean [batch, 1, rows, keys], true = may be seen; None = plain causal.
            scaling: What query · key is multiplied with.

        Returns:
            A mask of the same kind.
        """
        ...


_probe: ContextVar[Probe | None] = ContextVar("probe", default=None)
_layers: ContextVar[set[int] | None] = ContextVar("layers", default=None)


def _attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> Any:
    if odd := [name for name in _UNSUPPORTED if options.get(name) is not None]:
        raise EngineError(f"the model's attention uses {odd[0]!r}, which is not supported")
    probe, layers = _probe.get(), _layers.get()
    if probe is not None and layers is not None:
        layers.add(module.layer_idx)
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        attention_mask = probe(module.layer_idx, query, key, attention_mask, scaling)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def supported(model: Any) -> bool:
    """Whether a model's attention can be replaced at all; `probing` checks that all of it was."""
    return bool(getattr(model, "_supports_attention_backend", False))


@contextmanager
def probing(model: Any, probe: Probe) -> Iterator[None]:
    """While open, every forward pass of the model goes through `probe`.

    Raises:
        EngineError: On leaving: some layer never came by.
    """
    if not supported(model):
        raise EngineError(f"{type(model).__name__} does not use the library's attention interface")
    before = model.config._attn_implementation
    layers: set[int] = set()
    tokens = _probe.set(probe), _layers.set(layers)
    try:
        model.set_attn_implementation(NAME)
        yield
        expected = shape_of(model)[0]
        if layers != set(range(expected)):
            raise EngineError(
                f"only {len(layers)} of the model's {expected} layers use the attention interface"
            )
    finally:
        model.set_attn_implementation(before)
        _probe.reset(tokens[0])
        _layers.reset(tokens[1])


def shape_of(model: Any) -> tuple[int, int]:
    """Layers and attention heads a layer."""
    config = model.config.get_text_config()
    return int(config.num_hidden_layers), int(config.num_attention_heads)


def causal(rows: int, keys: int, device: Any) -> torch.Tensor:
    """Boolean [rows, keys]: what the last `rows` of `keys` positions may see."""
    at = torch.arange(keys - rows, keys, device=device)[:, None]
    return torch.arange(keys, device=device)[None] <= at


class Suppression:
    """A probe that hides a range of positions from all later ones, one range a batch row."""

    def __init__(self, hidden: Sequence[tuple[int, int] | None]) -> None:
        """Choose what to hide, in every layer and head.

        Args:
            hidden: For each batch row the positions `[start, end)` that positions from `end` on
                may not see; None leaves the row as it is.
        """
        self._hidden = [(0, 0) if r is None else r for r in hidden]

    def __call__(self, layer: int, query: Any, key: Any, mask: Any, scaling: float) -> Any:
        """Boolean mask [batch, 1, rows, keys]."""
        rows, keys, device = query.shape[2], key.shape[2], query.device
        seen = causal(rows, keys, device)[None, None] if mask is None else mask[..., :keys]
        start, end = torch.tensor(self._hidden, device=device).T[..., None, None]
        p = torch.arange(keys, device=device)
        hide = ((p >= start) & (p < end) & (p[keys - rows :, None] >= end))[:, None]
        return seen & ~hide
