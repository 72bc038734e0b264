"""A verdict as a regression test: the failing step replayed, and the correction that helped.

`export` writes `test_NAME.py` and `test_NAME.json` side by side; the test needs the environment,
and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracelab.core.hashing import content_hash
from tracelab.core.seam import RecordedRun
from tracelab.environments import make_environment

_TEST = '''"""Written by `tracelab audit --export-tests`: a failure, and what would have helped."""

from pathlib import Path

from tracelab.environments.case import Case

CASE = Case.load(Path(__file__).with_suffix(".json"))


def test_the_recorded_actions_still_fail() -> None:
    assert CASE.score_of_record() == CASE.run.score


def test_the_correction_succeeds() -> None:
    assert CASE.score_of_correction() > CASE.run.score
'''


@dataclass(frozen=True, slots=True)
class Case:
    """One corrected failure.

    Attributes:
        environment: As in `audit.environment`.
        run: The recorded run.
        action: The action that is corrected.
        correction: What is done from there on instead.
        reason: The verdict's.
    """

    environment: str
    run: RecordedRun
    action: int
    correction: tuple[str, ...]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON; `of` inverts it."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Case:
        """Read it back."""
        kept = {k: data[k] for k in ("environment", "action", "reason")}
        run = RecordedRun.of(data["run"])
        return cls(run=run, correction=tuple(data["correction"]), **kept)

    @classmethod
    def load(cls, path: Path) -> Case:
        """Read a file that `export` wrote."""
        return cls.of(json.loads(path.read_text(encoding="utf-8")))

    def score_of_record(self) -> float | None:
        """What the recorded actions score from the corrected one on."""
        return self._score(self.run.actions[self.action :])

    def score_of_correction(self) -> float:
        """What the correction scores; a score that is not known counts as 0."""
        return self._score(self.correction) or 0.0

    def _score(self, actions: Sequence[str]) -> float | None:
        with closing(make_environment(self.environment, _grade)()) as environment:
            state = environment.restore(self.run, self.action)
            for action in actions:
                if state.done:
                    break
                state = environment.step(action)
            return environment.score()


def export(cases: Sequence[Case], folder: Path) -> list[Path]:
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
