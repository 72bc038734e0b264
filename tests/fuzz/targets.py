"""What is fuzzed: each takes bytes that somebody hostile wrote, and must not raise.

What is expected to be refused is caught here; everything that comes out is a finding.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tracelab.core.episode import Arguments
from tracelab.core.errors import ImportFormatError
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import EnvironmentFailure, GradeRequest
from tracelab.core.trace import Trace
from tracelab.engines.http import retry_after
from tracelab.environments.action import Action
from tracelab.environments.base import as_score, as_state
from tracelab.grading.grader import Grader, GradingConfig
from tracelab.grading.judge_prompt import parse_judgement
from tracelab.sources import SOURCES, read
from tracelab.studies.audit.opinions.parse import parse_answer, parse_choice
from tracelab.studies.cite.methods.llm_cites import parse as parse_citation
from tracelab.text.answer.compare import surely_equal
from tracelab.text.answer.forms import canonical, extract_boxed
from tracelab.text.categories import categorize, parse_labels
from tracelab.text.clean import clean
from tracelab.text.reply import UnclearReplyError, one_object
from tracelab.text.segment import SEGMENTERS, reasoning_range, segment

Target = Callable[[bytes], None]


def imported(form: str, suffix: str, data: bytes) -> None:
    """A file, read by one importer: traces that can be written, or rejects that say why."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fuzz{suffix}"
        path.write_bytes(data)
        try:
            for item in read(path, form):
                if isinstance(item, Trace):
                    text = json.dumps(item.to_json(), ensure_ascii=False, allow_nan=False)
                    assert Trace.from_json(json.loads(text.encode())).trace_id == item.trace_id
                    if item.episode is not None:
                        assert "".join(u.text for u in item.episode.step_units()) == item.response
                else:
                    assert item.reason
                    f"{item.reason}{item.excerpt}{item.field}".encode()
        except ImportFormatError:
            return


def decoded(data: bytes) -> None:
    """The door itself, also as JSON inside JSON."""
    Arguments.of(data.decode("utf-8", "replace"))
    for repair in (False, True):
        try:
            value = decode(data, repair=repair)
        except OutsideError:
            continue
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def replied(data: bytes) -> None:
    """What models, judges, servers and environments answer."""
    text = data.decode("utf-8", "replace") + ("\ud800" if b"\xed" in data else "")
    parse_answer(text, 5, ["planner", "solver"], truncated=False)
    parse_choice(text, "verdict", ("yes", "no"))
    parse_judgement(text, {"correct": 1.0, "incorrect": 0.0})
    parse_labels(text, 5)
    assert isinstance(Action(text).calls, tuple)
    retry_after(text[:200])
    for read_reply in (one_object, partial(parse_citation, n=5)):
        try:
            read_reply(text)
        except UnclearReplyError:
            continue
    try:
        value = decode(data, repair=True)
    except OutsideError:
        return
    for checked in (as_state, as_score):
        try:
            checked(value)
        except EnvironmentFailure:
            continue


def cut(data: bytes) -> None:
    """A text, cut and read: what is cut is lossless where that is promised."""
    text = data.decode("utf-8", "replace")
    start, end = reasoning_range(text)
    assert 0 <= start <= end <= len(text)
    for name in SEGMENTERS:
        spans = segment(text, name)
        assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))
        for i, span in enumerate(spans[:20]):
            categorize(span.text, index=i, total=len(spans))
    boxed = extract_boxed(text)
    name = canonical(text if boxed is None else boxed)
    assert surely_equal(name, name)
    clean(text)


GRADERS = [
    Grader(GradingConfig(kind=kind, **more))
    for kind, more in (
        ("choice", {}), ("number", {"tolerance": 0.01}), ("exact", {}), ("yes_no", {}),
    )
]  # fmt: skip


def graded(data: bytes) -> None:
    """A response and its reference; math-verify, which has a process of its own, is left out."""
    text = data.decode("utf-8", "replace")
    response, _, reference = text.partition("\n\n")
    for grader in GRADERS:
        outcome = grader.grade_many(
            [GradeRequest(response, reference or response[-20:], None, "stop", None)]
        )[0]
        assert outcome.reward is None or 0 <= outcome.reward <= 1
        assert "Grading failed" not in (outcome.detail or ""), outcome.detail


SUFFIXES = {"inspect": (".eval", ".json"), "otel": (".json", ".jsonl"), "atif": (".json",)}
TARGETS: dict[str, tuple[Target, str]] = {
    f"{form}{suffix}": (partial(imported, form, suffix), suffix)
    for form, source in SOURCES.items()
    if source.suffixes
    for suffix in SUFFIXES.get(form, (".jsonl",))
} | {
    "gzip": (partial(imported, "auto", ".jsonl.gz"), ".jsonl.gz"),
    "decoded": (decoded, ".json"),
    "replied": (replied, ".txt"),
    "cut": (cut, ".txt"),
    "graded": (graded, ".txt"),
}
"""By name: the target, and what a file for it is called."""
