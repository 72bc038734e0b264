"""Scores guesses about the decisive step of labelled runs: of floors, judges and a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tracelab.core.episode import Episode
from tracelab.core.errors import ConfigError, ImportFormatError
from tracelab.core.flow import together
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.run.judges import JudgeSetup, asked
from tracelab.sources import read
from tracelab.sources.base import report_rejects
from tracelab.sources.files.lines import read_lines
from tracelab.studies.audit.opinions.floors import FLOORS
from tracelab.studies.audit.opinions.judges import PROTOCOLS, JudgeOptions, judged
from tracelab.studies.audit.opinions.scoring import (
    CaseScore,
    best_floor,
    compare,
    score_guess,
    score_opinion,
    score_prediction,
    summarise,
)

_AT_ONCE = 64
"""Runs judged at one time; an endpoint has fewer requests in flight."""


def score(
    path: Path,
    methods: Sequence[str],
    predictions: Path | None,
    setup: JudgeSetup,
    *,
    level: float,
    tell: Callable[[str], None],
    reply_tokens: int = 1024,
    show_reference: bool = False,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], float]:
    """Score every method on every subset of the labelled runs.

    Args:
        path: Logs; runs without a label are left out.
        methods: Floors and judges; none means all floors.
        predictions: JSONL of {name, step, agent}, scored as given.
        setup: How judges are asked.
        level: Coverage of the intervals.
        tell: Gets lines about what could not be used; they may quote a log.
        reply_tokens: Room for each reply of a judge.
        show_reference: Show judges the correct answer, where it is known.
        seed: Sent with each request, and of the bootstraps.

    Returns:
        One row a subset and method, and the share of judge calls that failed.

    Raises:
        ConfigError: A method is unknown, or judges have no model.
        ImportFormatError: There is no labelled run.
    """
    _, judges = chosen(methods)
    if judges and setup.model is None:
        raise ConfigError(f"--method {judges[0]} is a judge: give its --model")
    subsets = labelled(path, tell)
    given = None if predictions is None else _predictions(predictions)
    rows: list[dict[str, Any]] = []
    failed = calls = 0
    with ExitStack() as stack:
        by = stack.enter_context(asked(setup)) if judges else None
        for subset, episodes in subsets.items():
            scores, kinds = floor_scores(episodes), dict.fromkeys(FLOORS, "floor")
            if given is not None:
                scores["predictions"] = [
                    score_prediction(*given.get(e.name, (None, None)), e) for e in episodes
                ]
                kinds["predictions"] = "predictions"
            for name in judges:
                assert by is not None
                options = JudgeOptions(
                    by.who, by.count, by.context_length, reply_tokens=reply_tokens,
                    show_reference=show_reference, seed=seed,
                )  # fmt: skip
                opinions = by.loop.drive(
                    together((judged(e, name, options) for e in episodes), most=_AT_ONCE)
                )
                scores[name] = [
                    score_opinion(o, e) for o, e in zip(opinions, episodes, strict=True)
                ]
                kinds[name] = "judge"
                failed += sum(s.failed for s in scores[name])
                calls += len(episodes)
            shown = _shown(methods, scores)
            rows += table(subset, scores, kinds, shown, level=level, seed=seed,
                          reference_shown=show_reference)  # fmt: skip
    return rows, failed / calls if calls else 0.0


def chosen(methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """Floors and judges that are asked for; all floors when nothing is.

    Raises:
        ConfigError: One is unknown.
    """
    floors, judges = list[str](), list[str]()
    for name in methods or ("floors",):
        if name == "floors":
            floors += [f for f in FLOORS if f not in floors]
        elif name in FLOORS:
            floors.append(name)
        elif name in PROTOCOLS:
            judges.append(name)
        else:
            names = ["floors", *FLOORS, *PROTOCOLS]
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ConfigError(f"There is no method {name!r}; the nearest is {near!r}.")
    return floors, judges


def labelled(path: Path, tell: Callable[[str], None]) -> dict[str, list[Episode]]:
    """Labelled runs of a path by subset; what cannot be used is told.

    Raises:
        ImportFormatError: There is none.
    """
    subsets: dict[str, list[Episode]] = {}
    rejects: list[Reject] = []
    unlabelled = 0
    for found in read(path):
        if isinstance(found, Reject):
            rejects.append(found)
            continue
        episode = found.episode
        if episode is None or episode.label is None:
            unlabelled += 1
        else:
            subset = str(episode.meta.get("subset", episode.format))
            subsets.setdefault(subset, []).append(episode)
    report_rejects(rejects, tell)
    if unlabelled:
        tell(f"{unlabelled} runs have no label and are left out")
    if not subsets:
        raise ImportFormatError(f"{path}: no run has a labelled step or agent")
    for episodes in subsets.values():  # 2 before 10: ties and tables do not depend on the disk
        episodes.sort(key=lambda e: (len(e.name), e.name))
    return subsets


def floor_scores(episodes: Sequence[Episode]) -> dict[str, list[CaseScore]]:
    """Every floor on labelled runs."""
    return {
        name: [score_guess(g, e) for g, e in zip(floor(episodes), episodes, strict=True)]
        for name, floor in FLOORS.items()
    }


def table(
    subset: str,
    scores: dict[str, list[CaseScore]],
    kinds: dict[str, str],
    shown: Sequence[str],
    *,
    level: float,
    seed: int,
    reference_shown: bool,
) -> list[dict[str, Any]]:
    """One row a method: accuracies, intervals, curve, and difference to the best floor."""
    bar = best_floor({n: s for n, s in scores.items() if kinds[n] == "floor"})
    rows = []
    for name in shown:
        m = summarise(scores[name], level)
        versus = compare(
            [s.step for s in scores[name]],
            [s.step for s in scores[bar]],
            np.random.default_rng(seed),
            level=level,
        )
        own = name == bar
        rows.append(
            {
                "subset": subset,
                "method": name,
                "kind": kinds[name],
                "agent": m.agent.value, "agent_lo": m.agent.lo, "agent_hi": m.agent.hi,
                "step": m.step.value, "step_lo": m.step.lo, "step_hi": m.step.hi,
                **{f"within_{k}": r.value for k, r in enumerate(m.curve) if k},
                "n": m.step.n,
                "cases": m.cases,
                "unparsed": dict(sorted(m.unparsed.items())),
                "failed": m.failed,
                "ground_truth_shown": reference_shown if kinds[name] == "judge" else False,
                "best_floor": bar,
                "gain": None if own else versus.value,
                "gain_lo": None if own else versus.lo,
                "gain_hi": None if own else versus.hi,
                "gain_p": None if own else versus.p,
                "level": level,
            }
        )  # fmt: skip
    return rows


def _shown(methods: Sequence[str], scores: dict[str, list[CaseScore]]) -> list[str]:
    floors, judges = chosen(methods)
    return [*floors, *(n for n in scores if n == "predictions"), *judges]


def _predictions(path: Path) -> dict[str, tuple[object, str | None]]:
    """Predictions by the name of the run.

    Raises:
        ImportFormatError: A line is not an object with a `name`.
    """
    found: dict[str, tuple[object, str | None]] = {}
    for line in read_lines(path):
        try:
            data = decode(line.data, repair=True)
        except OutsideError as e:
            raise ImportFormatError(f"{path}:{line.number}: {e.reason}") from None
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise ImportFormatError(f"{path}:{line.number}: a prediction needs a `name`")
        agent = data.get("agent")
        found[data["name"]] = (data.get("step"), agent if isinstance(agent, str) else None)
    return found
