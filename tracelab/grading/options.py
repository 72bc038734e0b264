"""What decides the outcome of a rollout: one kind, and the fields of that kind.

Pure. A field of another kind is refused rather than ignored. `model_dump` leaves the fields of
other kinds out, so that a run recorded before a kind existed is still the same run.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tracelab.core.errors import ConfigError
from tracelab.core.options import KeyVariable, PlainUrl, Section
from tracelab.grading.registry import OUTCOMES

_ALWAYS = frozenset({"pattern", "choices", "tolerance"})
"""Fields that recorded configs hold whatever their kind is: they were there from the beginning."""


class CodeConfig(Section):
    """How code is run (`tracelab.grading.sandbox` says what the sandbox guarantees)."""

    tests_file: str | None = None
    """A file of Python assertions run after every response; default: each record's reference."""
    isolation: Literal["namespaces", "limits"] = "namespaces"
    """`namespaces` keeps files, network and processes away; `limits` bounds resources only."""
    cpu_seconds: int = Field(default=5, ge=1, le=600)
    """CPU seconds of each process; more is `timeout`."""
    memory_mb: int = Field(default=512, ge=64)
    """MiB of address space of each process."""
    processes: int = Field(default=8, ge=1, le=1000)
    """Most processes and threads at one time."""
    disk_mb: int = Field(default=16, ge=1)
    """MiB of files, in memory; also the largest file."""


class JudgeConfig(Section):
    """Which model judges, what it is asked, and how patiently."""

    base_url: PlainUrl = Field(default="", pattern=r"^(?:https?://\S+)?$")
    """The OpenAI-compatible endpoint, up to and including `/v1`."""
    model: str = ""
    """The judge's name there."""
    rubric: str = ""
    """What the judge decides, in plain words."""
    labels: dict[str, float] = {"correct": 1.0, "incorrect": 0.0}
    """Its possible verdicts, and the reward of each."""
    part: Literal["answer", "response"] = "answer"
    """`answer`: only what follows the reasoning, where it is marked; `response`: everything."""
    show_reference: bool = True
    """Whether the judge sees the record's reference answer, where there is one."""
    api_key_env: KeyVariable | None = None
    """Name of the environment variable that holds the key; the key itself never goes in here."""
    structured: bool = True
    """Ask the endpoint to constrain the reply to the JSON schema; not every one can."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """The judge's own; 0 makes it as repeatable as it can be."""
    seed: int = 0
    """Sent with every request; endpoints may ignore it."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply; a reply cut here is `ungraded`."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Seconds for one attempt."""
    attempts: int = Field(default=6, ge=1, le=100)
    """Attempts per response: after 429, 5xx, timeouts and lost connections it asks again."""
    backoff_s: float = Field(default=1.0, gt=0, le=60)
    """First wait between attempts; doubles with jitter, up to 60 s; `Retry-After` is obeyed."""
    input_price: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    output_price: float = Field(default=0.0, ge=0)
    """Price of a million reply tokens."""

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("`labels` needs at least two verdicts")
        for name, reward in self.labels.items():
            if not name.strip() or name != name.strip() or len(name) > 80:
                raise ValueError("a label is 1 to 80 characters without blanks at its ends")
            if not 0 <= reward <= 1:
                raise ValueError(f"the reward of label `{name}` is not between 0 and 1")
        if len({name.casefold() for name in self.labels}) < len(self.labels):
            raise ValueError("two labels differ only in case")
        return self


class GradingConfig(Section):
    """How the answer is found in a response, and when it counts as right."""

    kind: str = "boxed"
    """What decides, a name in `OUTCOMES` (`tracelab doctor` lists them)."""
    pattern: str | None = None
    """For `regex`: a Python regular expression with exactly one named group, the answer."""
    choices: str = Field(default="ABCDE", pattern=r"^[A-Z]{2,26}$")
    """For `choice`: the letters to choose from."""
    tolerance: float = Field(default=0.0, ge=0)
    """For `number`: two numbers are equal up to this share of the reference; 0 is exact."""
    positive: str = r"\byes\b"
    """For `yes_no`: the regular expression of a yes; the last match of either decides."""
    negative: str = r"\bno\b"
    """For `yes_no`: the regular expression of a no."""
    function: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$")
    """For `function`: `module:function`, importable from where tracelab is started."""
    code: CodeConfig = CodeConfig()
    """For `code`."""
    judge: JudgeConfig = JudgeConfig()
    """For `judge`."""
    workers: int = Field(default=4, ge=1, le=256)
    """For `function`, `code` and `judge`: how many responses are graded at once."""
    truncated: Literal["unanswered", "graded"] = "unanswered"
    """What a response is that `max_tokens` cut: `unanswered` (reward 0), or `graded` by an answer
    that it holds; for models that do not stop by themselves once they have answered."""
    case_sensitive: bool = False
    """Whether `Yes` and `yes` are different answers; single letters always are."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Seconds for one comparison by math-verify (of processor time) or one call of a function (what
    takes longer is `ungraded`), or for one run of code (`timeout`). A judge has its own."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        try:
            kind = OUTCOMES.named(self.kind)
        except ConfigError as e:
            raise ValueError(str(e)) from None
        for name, kinds in _owners().items():
            # By value, not by what was written: a recorded config spells its defaults out.
            default = type(self).model_fields[name].default
            if self.kind not in kinds and getattr(self, name) != default:
                where = " and ".join(f"`{kind}`" for kind in kinds)
                raise ValueError(f"`{name}` is for kind {where}, but `kind` is `{self.kind}`")
        kind.check(self)
        return self

    @model_serializer(mode="wrap")
    def _only_its_own(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for name, kinds in _owners().items():
            if self.kind not in kinds and name not in _ALWAYS:
                data.pop(name, None)
        if self.truncated == type(self).model_fields["truncated"].default:
            data.pop("truncated", None)  # configs were recorded before there was a choice
        return data


def _owners() -> dict[str, list[str]]:
    """For each field that not every kind has, the kinds that have it."""
    owners: dict[str, list[str]] = {}
    for kind, rule in OUTCOMES.items():
        for name in rule.fields:
            owners.setdefault(name, []).append(kind)
    return owners
