"""Log-probabilities of a prompt's last tokens from vLLM, and when they can be trusted.

vLLM computes log-probability rows only where it computes the prompt: rows of positions that came
from the prefix cache are uninitialised memory, returned without an error. So a result counts only
if the cache gave at most prefix - 1 tokens (the row of the first target token is computed at the
prefix's last position) and every row is about the token that was asked. Everything else returns
None and is asked again without reading the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def has_tail_rows(llm: Any) -> bool:
    """Whether this vLLM can compute the output layer for the target's rows alone.

    That is `prompt_logprob_token_ids`, which needs the second model runner (GPU). Where it is
    missing, `prompt_logprobs` computes a row for every prompt token that is not cached.
    """
    from vllm import SamplingParams

    fields = getattr(SamplingParams, "__struct_fields__", None) or [
        f.name for f in dataclasses.fields(SamplingParams)
    ]
    config = getattr(llm, "vllm_config", None)
    return "prompt_logprob_start" in fields and bool(getattr(config, "use_v2_model_runner", False))


def params(target: Sequence[int], start: int, *, use_cache: bool, tail: bool) -> Any:
    """Sampling parameters that ask for the log-probabilities of a prompt's last tokens.

    Args:
        target: The last tokens of the prompt.
        start: Tokens before them.
        use_cache: Whether the prefix cache may be read.
        tail: Ask for the target's rows only; see `has_tail_rows`.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    rows: dict[str, Any] = (
        {"prompt_logprob_token_ids": [[t] for t in target], "prompt_logprob_start": start - 1}
        if tail
        # Flat: two lists for the whole prompt instead of a dictionary for each position.
        else {"prompt_logprobs": 0, "flat_logprobs": True}
    )
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        skip_reading_prefix_cache=not use_cache,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **rows,
    )


def read(out: Any, target: Sequence[int], start: int, *, tail: bool) -> list[float] | None:
    """Log-probability of each target token in nats, or None if a row cannot be trusted."""
    if int(out.num_cached_tokens or 0) > start - 1:
        return None
    if tail:
        # Computed rows only: vLLM gives none at all where the cache would have hidden one.
        found = out.prompt_token_id_logprobs
        if found is None or found.shape != (len(target), 1):
            return None
        return [float(x) for x in found[:, 0]]
    rows = out.prompt_logprobs
    if rows is None or len(rows) < len(target):
        return None
    # From the end: some versions leave out the rows that were cached.
    first = len(rows) - len(target)
    row = []
    for k, token in enumerate(target):
        a, b = rows.start_indices[first + k], rows.end_indices[first + k]
        if token not in rows.token_ids[a:b]:
            return None
        row.append(float(rows.logprobs[rows.token_ids.index(token, a, b)]))
    return row
