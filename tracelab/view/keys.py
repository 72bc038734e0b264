"""What a study can be asked through any door: the keys of its config under the names of one call.

    tracelab audit logs/ --rollouts 8  ─┐
    tracelab.audit("logs/", rollouts=8) ─┼─► [audit] rollouts = 8 ─► RunConfig
    --set audit.rollouts=8             ─┘

A study's own options are the fields of its model, and what every run has (model, engine, sampling)
comes with them. Names, bounds, defaults and help are the models' own; where a command has always
begun with something else than a config does, `MANNERS` says so. Only what was asked for is put into
the config.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tracelab.core.errors import ConfigError
from tracelab.core.study import STUDIES
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES
from tracelab.run.config import RunConfig, assign, override, parse_config
from tracelab.sources.registry import SOURCES
from tracelab.sources.testbed import NAME as TESTBED

F = TypeVar("F", bound=Callable[..., Any])
Names = Callable[[], Iterable[str]]
Overrides = Mapping[str, Any] | Sequence[str]
"""Any config keys: `{"anchors.delta": 0.05}`, or as `--set` takes them."""

UNSAID = "(not said)"
"""Stands for a model until it is known whether one is needed."""

COMMON = {
    "model": "model",
    "name": "name",
    "seed": "seed",
    "format": "source_options.format",
    "limit": "source_options.limit",
    "off_policy": "source_options.off_policy",
    "engine": "engine.kind",
    "dtype": "engine.dtype",
    "template_options": "engine.template_options",
    "endpoint": "engine.server.endpoint",
    "served": "engine.server.model",
    "api_key_env": "engine.server.api_key_env",
    "max_requests": "engine.server.max_requests",
    "max_cost": "engine.server.max_cost",
    "input_price": "engine.server.input_price",
    "output_price": "engine.server.output_price",
    "continuation": "engine.server.continuation",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "max_tokens": "sampling.max_tokens",
    "max_error_rate": "runtime.max_error_rate",
}
"""What every run can be asked: keywords, and keys of the config."""

_NAMES: Mapping[str, Names] = {
    "engine.kind": lambda: ENGINES,
    "source_options.format": lambda: ["auto", *SOURCES],
}
_LIMIT, _PROBLEMS = "source_options.limit", "source_options.problems"


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be asked.

    Attributes:
        keyword: Its name as a keyword of Python; `--with-dashes` on the command line.
        path: The config key.
        info: Its declaration: type, bounds, help.
        default: What holds when nobody asks; None where something else decides.
        required: Whether somebody must ask.
        aliases: Other keywords of it.
        names: Who knows the names that it may have, where it is one.
    """

    keyword: str
    path: str
    info: FieldInfo
    default: Any = None
    required: bool = False
    aliases: tuple[str, ...] = ()
    names: Names | None = None


@dataclass(frozen=True, slots=True)
class Manners:
    """How the command and the function of one study differ from a config of it.

    Attributes:
        defaults: Config keys that begin with another value.
        moved: Keys of servers that mean other keys where the run's engine is no server.
        aliases: Other keywords of config keys; one that every run has is then not offered.
        named: Name of a run over a file; None names it after all that determines its numbers.
        name_is: That in words.
        in_process: Whether one small engine runs in this process rather than in a worker.
        model_of: The model where none was given; None where one must be.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    named: Callable[[str], str] | None = None
    name_is: str = "the study's, and a hash of what determines its numbers"
    in_process: bool = False
    model_of: Callable[[RunConfig], str | None] | None = None


def _model_of_audit(config: RunConfig) -> str | None:
    """The model of an audit that names none: one is needed only where one is asked.

    Never the bundled one for logs of the user's: its re-executions would say nothing of them.
    """
    # Only audits need these, and everybody imports this module.
    from tracelab.environments import known_environment
    from tracelab.run.wiring import NO_MODEL
    from tracelab.studies.audit.opinions.collect import known_opinions
    from tracelab.studies.audit.opinions.floors import FLOORS

    options: Any = config.options
    if config.source == TESTBED:
        return TESTBED
    known_opinions(options.opinions)
    if options.environment is not None:
        known_environment(options.environment)
    rules = all(name in FLOORS for name in options.opinions)
    if options.environment is None and (rules or options.judge.endpoint is not None):
        return NO_MODEL
    return None


def _after_file(source: str) -> str:
    stem = Path(source.splitlines()[0]).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "run"


MANNERS: Mapping[str, Manners] = {
    "anchors": Manners(named=_after_file, name_is="the file's"),
    "cite": Manners(
        defaults={
            "engine.kind": "transformers",
            "engine.dtype": "float32",
            "sampling.temperature": 0.0,
            "cite.top_k": [1],
        },
        in_process=True,
    ),
    "audit": Manners(
        model_of=_model_of_audit,
        aliases={
            "judge": "audit.judge.model",
        },
        moved={
            f"engine.server.{key}": f"audit.judge.{key}"
            for key in (
                "endpoint",
                "api_key_env",
                "max_requests",
                "max_cost",
                "input_price",
                "output_price",
            )
        },  # fmt: skip
        named=lambda source: "audit",
        name_is="audit",
    ),
}
"""By study; one that is not here has none."""


def manners_of(study: str) -> Manners:
    """How the command and the function of a study differ from a config of it."""
    return MANNERS.get(study, Manners())


def common_keys() -> dict[str, Key]:
    """What every run can be asked, by keyword, with the defaults of configs."""
    found = {}
    for keyword, path in COMMON.items():
        model: type[BaseModel] = RunConfig
        *sections, last = path.split(".")
        for section in sections:
            inner = model.model_fields[section].annotation
            assert isinstance(inner, type) and issubclass(inner, BaseModel)
            model = inner
        info = model.model_fields[last]
        found[keyword] = Key(keyword, path, info, _default(info), names=_NAMES.get(path))
    found["name"] = replace(found["name"], default=None)
    return found


def keys_of(study: str) -> dict[str, Key]:
    """What a study can be asked, by keyword: its own options first.

    Where a study's own option has a name that every run uses, it is asked under the study's name
    and its own: `limit` of a study `probe` is `probe_limit`.
    """
    manners = manners_of(study)
    aliases: dict[str, list[str]] = {}
    for alias, path in manners.aliases.items():
        aliases.setdefault(path, []).append(alias)
    common = {k: v for k, v in common_keys().items() if k not in manners.aliases}
    found: dict[str, Key] = {}
    for key in _fields(STUDIES.named(study).Options, study):
        keyword = f"{study}_{key.keyword}" if key.keyword in common else key.keyword
        found[keyword] = replace(key, keyword=keyword, aliases=tuple(aliases.get(key.path, ())))
    for keyword, key in common.items():
        found[keyword] = replace(key, required=keyword == "model" and manners.model_of is None)
    for keyword, key in found.items():
        if key.path in manners.defaults:
            default = manners.defaults[key.path]
            found[keyword] = replace(key, default=default, required=False)
    return found


def _fields(model: type[BaseModel], path: str, prefix: str = "") -> Iterator[Key]:
    """The keys of a section and of the sections in it."""
    names: Mapping[str, Names] = getattr(model, "names", {})
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{path}.{name}", f"{prefix}{name}_")
        else:
            yield Key(
                prefix + name, f"{path}.{name}", info, _default(info), info.is_required(),
                names=names.get(name),
            )  # fmt: skip


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True)


def asked(study: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Keywords of a call as values by config key; what is None or () was not asked.

    Raises:
        ConfigError: There is no such option; the sentence names the nearest.
    """
    known = {name: k for k in keys_of(study).values() for name in (k.keyword, *k.aliases)}
    found: dict[str, Any] = {}
    for keyword, value in options.items():
        if (key := known.get(keyword)) is None:
            near = difflib.get_close_matches(keyword, known, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"{where}: there is no option `{keyword}`; {hint}")
        if value is not None and value != ():
            found[key.path] = value
    return found


def config_of(
    study: str,
    source: str,
    given: Mapping[str, Any],
    overrides: Overrides = (),
    *,
    in_memory: bool = False,
    where: str,
) -> RunConfig:
    """The config of what was asked.

    Args:
        study: Which study.
        source: Of what; several paths are separated by line breaks.
        given: Values by config key.
        overrides: Config keys that have no option of their own.
        in_memory: Whether the source holds data that were in memory: no name of a file then.
        where: Who is asking, for messages.

    Raises:
        ConfigError: One sentence that names the key.
    """
    manners = manners_of(study)
    values = {**manners.defaults, **_moved(given, manners)}
    if source == TESTBED and _LIMIT in values:
        values.setdefault(_PROBLEMS, values[_LIMIT])
    data: dict[str, Any] = {"study": study, "source": source}
    if manners.model_of is not None:
        data["model"] = UNSAID
    for path, value in values.items():
        assign(data, path, _json(path, value, where))
    if isinstance(overrides, Mapping):
        for path, value in overrides.items():
            assign(data, path, _json(path, value, where))
    else:
        for item in overrides:
            override(data, item)
    if data.get("model") == UNSAID and manners.model_of is not None:
        named = manners.model_of(parse_config({"name": study, **data}, where))
        if named is None:
            raise ConfigError(
                f"{where}: `model` is missing: which model wrote these runs, and is to write them "
                "again (or gives the opinions, where there is no endpoint)?"
            )
        data["model"] = named
    if "name" in data:
        return parse_config(data, where)
    if manners.named is not None and not in_memory:
        return parse_config(data | {"name": manners.named(source)}, where)
    parsed = parse_config(data | {"name": study}, where)
    return parse_config(data | {"name": f"{study}-{parsed.digest[:8]}"}, where)


def _moved(given: Mapping[str, Any], manners: Manners) -> dict[str, Any]:
    """What was asked; of a server it says something of the judges' where the engine is none."""
    values = dict(given)
    kind = ENGINES.get(values.get("engine.kind", EngineConfig().kind))
    if kind is not None and kind.served:
        return values
    for server, own in manners.moved.items():
        if server in values:
            values.setdefault(own, values.pop(server))
    return values


def _json(path: str, value: Any, where: str) -> Any:
    """A value as a config file would hold it: lists for tuples, plain numbers for numpy's."""

    def plain(other: Any) -> Any:
        if isinstance(other, Path):
            return str(other)
        if callable(item := getattr(other, "item", None)):
            return item()
        raise TypeError

    try:
        return json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise ConfigError(f"{where}: `{path}` cannot be a {kind}") from None


def replicating(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `compat = "thought-anchors"` asks of anchors, besides what was asked.

    Sampling as published, and the published numbers beside ours.

    Args:
        values: What was asked, by config key; it wins, and its methods are computed too.
    """
    from tracelab.studies.anchors.options import AnchorsOptions
    from tracelab.studies.anchors.published.recipe import SETTINGS

    settings = {f"anchors.{key}": value for key, value in SETTINGS.items()}
    methods = values.get("anchors.methods", AnchorsOptions().methods)
    wanted = [*dict.fromkeys([*methods, "force", "thought-anchors"])]
    return {**settings, **values, "anchors.methods": wanted}


def speaks(study: str) -> Callable[[F], F]:
    """Decorator: a function of `**options` shows the keys of a study, with defaults and help.

    In its docstring, `{options}` stands where they are described.
    """

    def of(function: F) -> F:
        own = inspect.signature(function).parameters
        more = {w: k for w, k in keys_of(study).items() if w not in own}
        plain = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                w, inspect.Parameter.KEYWORD_ONLY, default=k.default, annotation=k.info.annotation
            )
            for w, k in more.items()
        ]
        described = "\n".join(
            f"{w}: {' '.join((k.info.description or '').split())}" for w, k in more.items()
        )
        vars(function)["__signature__"] = inspect.Signature([*plain, *added])
        function.__doc__ = (function.__doc__ or "").replace(
            "{options}", textwrap.indent(described, " " * 12).strip()
        )
        return function

    return of
