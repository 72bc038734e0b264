"""Whether the model that made a trace is the one that measures it, by their names. Pure.

Sources name models as they like: a hub id, a folder, what a server calls it, a tag. Two names are
of one model when what they name is spelled alike, letters and digits only, upper or lower case:

    Qwen/Qwen3-8B    /models/Qwen3-8B/    hosted_vllm/qwen3-8b    qwen3:8b    Qwen3-8B@main
    .../models--Qwen--Qwen3-8B/snapshots/9c92...

So owners, folders, providers and a `:latest` do not matter; sizes, `-Instruct` and quantisations
do. Two commits after an `@` are of one model where one begins like the other. A folder whose name
says nothing of its model is another name; `source_options.off_policy = "meant"` says it is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CACHED = re.compile(r"models--[^/]+--([^/]+)(?:/snapshots/([^/]+))?")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_MOVING = frozenset({"main", "master", "latest"})


def spelled(name: str) -> tuple[str, str]:
    """What a name names, and its commit where it has one (else empty)."""
    name = name.strip().replace("\\", "/").rstrip("/")
    if found := _CACHED.search(name):
        return _letters(found[1]), (found[2] or "").lower()
    last = name.rpartition("/")[2]
    last, _, revision = last.partition("@")
    word, _, tag = last.rpartition(":")
    if word and tag.lower() in _MOVING:
        last = word
    commit = revision.lower() if _COMMIT.fullmatch(revision.lower()) else ""
    other = "" if commit or revision.lower() in _MOVING else revision
    return _letters(last) + _letters(other), commit


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def same_model(a: str, b: str) -> bool:
    """Whether two names are of one model, as far as names tell."""
    (mine, my_commit), (theirs, their_commit) = spelled(a), spelled(b)
    if mine != theirs:
        return False
    if not (my_commit and their_commit):
        return True
    return my_commit.startswith(their_commit) or their_commit.startswith(my_commit)


def off_policy(made_by: str | None, measured_by: Iterable[str]) -> bool | None:
    """Whether another model made a trace; None where it is not said which.

    Args:
        made_by: The model that the source names.
        measured_by: All names of the model that measures.
    """
    if made_by is None or not made_by.strip():
        return None
    return not any(same_model(made_by, name) for name in measured_by)


def warning(others: Sequence[str], n: int, of: int, measured_by: str) -> str:
    """The sentence for who should know: `others` made `n` of the traces."""
    shown = ", ".join(repr(m) for m in sorted(set(others))[:3])
    shown += ", ..." if len(set(others)) > 3 else ""
    whose = f"{n} of {of} traces were" if of > 1 else "the trace was"
    return (
        f"{whose} made by another model ({shown}) than measures them ({measured_by!r}): the "
        "numbers say what this model would do, not why that one did it (traces.off_policy; "
        "--off-policy meant where it is meant)"
    )
