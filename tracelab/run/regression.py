"""A verdict as a regression test: the failing step replayed, and the correction that helped.

`export` writes `test_NAME.py` and `test_NAME.json` side by side; the test needs the environment,
and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tracelab.core.hashing import content_hash
from tracelab.core.outside import DEPTH, decode
from tracelab.environments import make_environment
from tracelab.studies.audit.corrected import Corrected

_TEST = '''"""Written by `tracelab audit --export-tests`: a failure, and what would have helped."""

from pathlib import Path

from tracelab.run.regression import load, score_of_correction, score_of_record

CASE = load(Path(__file__).with_suffix(".json"))


def test_the_recorded_actions_still_fail() -> None:
    assert score_of_record(CASE) == CASE.run.score


def test_the_correction_succeeds() -> None:
    assert score_of_correction(CASE) > CASE.run.score
'''


def load(path: Path) -> Corrected:
    """Read a file that `export` wrote."""
    return Corrected.of(decode(path.read_bytes(), depth=2 * DEPTH))


def score_of_record(case: Corrected) -> float | None:
    """What the recorded actions score from the corrected one on."""
    return _score(case, case.run.actions[case.action :])


def score_of_correction(case: Corrected) -> float:
    """What the correction scores; a score that is not known counts as 0."""
    return _score(case, case.correction) or 0.0


def _score(case: Corrected, actions: Sequence[str]) -> float | None:
    with closing(make_environment(case.environment, _grade)()) as environment:
        state = environment.restore(case.run, case.action)
        for action in actions:
            if state.done:
                break
            state = environment.step(action)
        return environment.score()


def export(cases: Sequence[Corrected], folder: Path) -> list[Path]:
    """Write a test for each case; returns the test files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case in cases:
        name = re.sub(r"[^a-z0-9]+", "_", case.run.name.lower()).strip("_")[:60]
        stem = f"test_{name}_{content_hash(case.to_json(), size=3)}"
        data = json.dumps(case.to_json(), indent=1)
        (folder / f"{stem}.json").write_text(data + "\n", encoding="utf-8")
        (folder / f"{stem}.py").write_text(_TEST, encoding="utf-8")
        written.append(folder / f"{stem}.py")
    return written


def _grade(text: str, reference: str) -> float | None:
    from tracelab.grading.grader import Grader, GradingConfig

    with closing(Grader(GradingConfig())) as grader:
        return grader.grade(
            text, reference=reference, own_answer=None, finish_reason="stop", trace=None
        ).reward
