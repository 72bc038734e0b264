"""Which messages made a model take a step: the log-probability of the step without each of them.

Leave-one-out over messages: a message's content is replaced by a placeholder, and the recorded
action is scored again. The effect is log p(action | all) - log p(action | without it), nats;
positive when the message made the action likelier. It says what that decision depended on, not
what it did to the outcome, and of two messages that say the same neither shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracelab.environments.base import RecordedRun
from tracelab.errors import PlanError
from tracelab.runtime.rerun import Rerunner
from tracelab.work import Observation, WorkItem

PLACEHOLDER = "[...]"
_TOP = 3
_MOST_MESSAGES = 64
"""The latest ones are tried; a chat may have thousands."""
_EXCERPT = 200


def message_effects(
    rerunner: Rerunner, asked: Sequence[tuple[RecordedRun, int]]
) -> list[list[dict[str, Any]]]:
    """The messages that raised each action's log-probability most.

    Args:
        rerunner: Knows the model, its template and the engines.
        asked: Runs and the index of the action that is to be explained.

    Returns:
        For each, at most three of `{"message", "role", "effect", "text"}`, the largest effect
        first; empty where the action could not be scored.
    """
    items: dict[str, WorkItem] = {}
    places: list[tuple[str | None, dict[int, str]]] = []
    for run, t in asked:
        before = run.before[t]
        try:
            target = rerunner.chat.written(before, run.actions[t])
            tools = run.offered_at(t)
            full = _item(rerunner, before, tools, target)
        except PlanError:
            places.append((None, {}))
            continue
        items[full.key] = full
        keys: dict[int, str] = {}
        for j in range(max(0, len(before) - _MOST_MESSAGES), len(before)):
            without = [dict(m) for m in before]
            without[j]["content"] = PLACEHOLDER
            try:
                item = _item(rerunner, without, tools, target)
            except PlanError:
                continue
            items[item.key], keys[j] = item, item.key
        places.append((full.key, keys))
    found: dict[str, float] = {}

    def take(batch: list[Observation]) -> None:
        found.update({o.key: o.logprob for o in batch if o.logprob is not None})

    if items:
        rerunner.observe("evidence", list(items.values()), take)
    return [
        _ranked(run, t, found, full, keys)
        for (run, t), (full, keys) in zip(asked, places, strict=True)
    ]


def _item(
    rerunner: Rerunner, messages: Sequence[Any], tools: Sequence[Any], target: tuple[int, ...]
) -> WorkItem:
    return WorkItem(rerunner.model, rerunner.chat.prompt(messages, tools), target_ids=target)


def _ranked(
    run: RecordedRun, t: int, found: dict[str, float], full: str | None, keys: dict[int, str]
) -> list[dict[str, Any]]:
    whole = found.get(full or "")
    if whole is None:
        return []
    effects = {j: whole - found[key] for j, key in keys.items() if key in found}
    best = sorted(effects, key=lambda j: (-effects[j], j))[:_TOP]
    return [
        {
            "message": j,
            "role": run.before[t][j]["role"],
            "effect": round(effects[j], 4),
            "text": str(run.before[t][j].get("content") or "")[:_EXCERPT],
        }
        for j in best
        if effects[j] > 0
    ]
