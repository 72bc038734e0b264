"""Configuration: a TOML file becomes a checked, frozen value, or one clear sentence.

Unknown keys are refused with the nearest valid name. `digest` covers what determines the work, so
that a run is never continued under a changed config.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from tracelab.core.errors import ConfigError
from tracelab.core.hashing import content_hash
from tracelab.core.options import Section
from tracelab.core.resources import resource_dir
from tracelab.core.secrets import keep_secrets_of, redacted_json
from tracelab.core.study import STUDIES
from tracelab.engines.options import EngineConfig as EngineConfig
from tracelab.engines.registry import ENGINES
from tracelab.grading.grader import GradingConfig
from tracelab.sources import AUTO, SOURCES
from tracelab.sources.files.columns import check_columns

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$"
"""Names of runs: they are names of folders too."""


class SamplingConfig(Section):
    """How base traces and rollouts are sampled: the same way, or importances mean nothing."""

    temperature: float = Field(default=1.0, ge=0, le=5)
    """0 is greedy (a greedy rollout carries no information about a distribution)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k likeliest tokens; 0 keeps all."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest continuation; a rollout cut here without an answer counts as unanswered."""


class SourceConfig(Section):
    """Which part of the source is studied."""

    format: str = "auto"
    """`auto`, a format of `tracelab ingest`, or `questions`: JSONL of prompts without responses."""
    columns: dict[str, str] | None = None
    """What a data set calls its columns, by their names here: `{question = "Aufgabe"}`. Of
    `question`, `response`, `reasoning`, `reference`, `success`, `id`, `model`, `system`,
    `context`."""
    limit: int | None = Field(default=None, ge=1)
    """Most traces taken, in file order."""
    attempts: int = Field(default=1, ge=1)
    """Questions: responses sampled for each; those that are studied are chosen by `keep`."""
    keep: Literal["first", "both"] = "first"
    """Questions: study the `first` response, or `both` the first right and the first wrong one."""
    problems: int = Field(default=8, ge=1)
    """Testbed only: how many questions."""
    phrasing: int | None = Field(default=None, ge=0, le=2)
    """Testbed only: one of the three phrasings (P(right plan) differs); default: all."""
    rendering: Literal["auto", "chat", "raw"] = "auto"
    """How prompts become tokens; `auto` is what the record says, else chat."""
    off_policy: Literal["warn", "meant"] = "warn"
    """Traces that another model made than the one that measures them: `warn`, or they are `meant`
    (`traces.off_policy` says which they are)."""


class RuntimeConfig(Section):
    """Ray, the journal, and when to give up."""

    ray_address: str | None = None
    """None starts Ray on this machine for this run; `auto` or an address joins a cluster."""
    in_flight: int = Field(default=8, ge=1)
    """Requests batches an engine may hold; more hides latency, fewer saves memory."""
    batch_rollouts: int = Field(default=128, ge=1)
    """Rollouts per batch sent to an engine."""
    journal: str | None = None
    """Folder or fsspec URL of the journals; default: `runs` in the home."""
    max_error_rate: float = Field(default=0.05, ge=0, le=1)
    """Share of failed rollouts above which the run ends with exit code 3."""
    max_engine_deaths: int = Field(default=8, ge=0)
    """Engine deaths after which the run stops."""


_STUDIES_BEFORE = {
    "thought_anchors": "anchors", "context_attribution": "cite", "failure_audit": "audit",
}  # fmt: skip
_KEYS_BEFORE = {"pipeline": "study", "resample": "anchors", "context": "cite"}
"""What keys were called in earlier configs, which are still read."""


class RunConfig(Section):
    """One run: a study of a source with a model.

    `parse_config` returns a subclass that has a section for every study, under the study's name.
    """

    name: str = Field(pattern=RUN_NAME)
    """The run's name and id; running it again resumes it."""
    study: str = "anchors"
    """What is studied: `anchors`, `cite`, `audit`, or a study of another package."""
    source: str = Field(min_length=1)
    """`testbed`, or a file or folder; several are separated by line breaks."""
    model: str = Field(min_length=1)
    """`testbed`, a model directory, or a hub id; `none` where no model is asked for anything."""
    seed: int = Field(default=0, ge=0)
    """Seeds every sample."""
    source_options: SourceConfig = SourceConfig()
    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    grading: GradingConfig = GradingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def options(self) -> Section:
        """The section of the run's study."""
        found: Section = getattr(self, self.study)
        return found

    def with_options(self, **changed: Any) -> RunConfig:
        """The same run with other options of its study."""
        return self.model_copy(update={self.study: self.options.model_copy(update=changed)})

    def identity(self) -> dict[str, Any]:
        """What may not change under one run name: everything that changes a number.

        Machine settings do not, nor do the study's keys that ask for more of the same.
        """
        keep = ("name", "study", "source", "model", "seed", "source_options", "sampling", "grading")
        data: dict[str, Any] = self.model_dump(mode="json", include={*keep, "engine", self.study})
        for key in self.options.may_change:
            del data[self.study][key]
        data["source_options"].pop("off_policy")
        if not data["source_options"]["columns"]:  # runs of before there were any go on
            del data["source_options"]["columns"]
        for price in ("input_price", "output_price"):
            data["grading"].get("judge", {}).pop(price, None)
        engine, said = data["engine"], ("trust_remote_code", "template_options")
        kept = ("kind", "dtype", "max_model_len", *(k for k in said if engine[k]))
        data["engine"] = {k: engine[k] for k in kept}
        return data

    @property
    def digest(self) -> str:
        """Hash of `identity`."""
        return content_hash(self.identity())


@cache
def _full() -> type[RunConfig]:
    """The config with the sections of all studies there are."""
    sections: dict[str, Any] = {name: (s.Options, s.Options()) for name, s in STUDIES.items()}
    return create_model("RunConfig", __base__=RunConfig, **sections)


def load_config(
    path: Path, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> RunConfig:
    """Read a TOML config.

    Args:
        path: The file, or the name of a bundled one (`demo`); relative `source` and `model`
            paths inside it are taken from the current directory, like every other path on the
            command line.
        overrides: `section.key=value`, values in TOML syntax (a bare word is a string).
        given: Values by key, `section.key`; overrides win.

    Raises:
        ConfigError: One sentence naming the file and the field.
    """
    try:
        data = tomllib.loads(_find(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        bundled = ", ".join(sorted(n for n in _bundled() if "/" not in n))
        raise ConfigError(f"{path}: no such config file (bundled ones: {bundled})") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a config file") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 (byte {e.start})") from None
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror})") from None
    data = _renamed(data)
    for key, value in (given or {}).items():
        assign(data, key, value)
    for item in overrides:
        override(data, item)
    return parse_config(data, str(path))


def _bundled() -> dict[str, Path]:
    """Every bundled config by name; `cite/demo` where two studies share one."""
    root = resource_dir("configs")
    files = sorted(p for p in root.glob("*/*.toml") if p.parent.name != "engines")
    named = {f"{p.parent.name}/{p.stem}": p for p in files}
    first = {p.stem: p for p in files if p.parent.name != "anchors"}
    return named | first | {p.stem: p for p in files if p.parent.name == "anchors"}


def _find(path: Path) -> Path:
    """The file itself, else the bundled config of that name."""
    return path if path.exists() else _bundled().get(str(path).removesuffix(".toml"), path)


def parse_config(data: Mapping[str, Any], where: str) -> RunConfig:
    """Validate config data.

    Raises:
        ConfigError: One sentence naming `where` and the first wrong field.
    """
    model = _full()
    for old, new in _KEYS_BEFORE.items():
        if old in data and new in data:
            raise ConfigError(f"{where}: `{old}` is the old name of `{new}`; write one of them")
    try:
        keep_secrets_of(data)
        # Strict: true is not 1, and "50" is not 50.
        config = model.model_validate(_renamed(data), strict=True)
    except ValidationError as e:
        raise ConfigError(f"{where}: {explain(e, model)}") from None
    try:
        STUDIES.named(config.study, "study")
        ENGINES.named(config.engine.kind, "engine.kind")
        check_columns(config.source_options.columns or {})
        if config.source_options.format != AUTO:
            SOURCES.named(config.source_options.format, "source_options.format")
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from None
    return config


def _renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Config data under today's names."""
    found = {_KEYS_BEFORE.get(key, key): value for key, value in data.items()}
    if isinstance(found.get("study"), str):
        found["study"] = _STUDIES_BEFORE.get(found["study"], found["study"])
    return found


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first validation error as one sentence."""
    first = error.errors()[0]
    field = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        names, key = _names_at(model, first["loc"][:-1]), str(first["loc"][-1])
        elsewhere: dict[str, str] = {}  # where sections share a key, the first one is meant
        for path in _paths(model):
            elsewhere.setdefault(path.rpartition(".")[2], path)
        near = (
            difflib.get_close_matches(key, names, n=1, cutoff=0.6)
            or [elsewhere[n] for n in difflib.get_close_matches(key, elsewhere, n=1, cutoff=0.75)]
            or difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        )
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(names))}"
        return f"unknown key `{field}`; {hint}"
    if first["type"] == "missing":
        return f"`{field}` is missing"
    if first["type"] == "model_type":
        return f"`{field}` = {_short(first['input'])}: this is a section; write [{field}]"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"`{field}` = {_short(first['input'])}: {message}"


def _paths(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Every key of a model and of its sections, dotted."""
    for name, info in model.model_fields.items():
        yield at + name
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _paths(info.annotation, f"{at}{name}.")


def _names_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    for part in loc:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)


def _short(value: object) -> str:
    text = json.dumps(redacted_json(value), default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def override(data: dict[str, Any], item: str) -> None:
    """Set one `section.key=value` of config data; see `load_config`."""
    key, eq, raw = item.partition("=")
    if not eq or not key.strip():
        raise ConfigError(f"--set {item!r}: write key=value, for example --set anchors.rollouts=50")
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    assign(data, key, value)


def assign(data: dict[str, Any], key: str, value: Any) -> None:
    """Set `section.key` of config data.

    Raises:
        ConfigError: The section is a value.
    """
    node = data
    first, *more = key.strip().split(".")
    *parents, last = [_KEYS_BEFORE.get(first, first), *more]
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key.strip()!r}: `{part}` is a value, not a section")
        node = child
    node[last] = value
