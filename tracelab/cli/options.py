"""Options of commands, made from the models that they fill: one declaration, three doors.

An option is one key (`tracelab.view.keys`): its type and bounds are the annotation's, its help is
the docstring under the field, its default the model's. Lists are options that may be repeated, in
the singular; `*_tokens` understand 200k; a bool is a pair of flags. Only what was given on the
command line goes into a config.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from click.core import ParameterSource

from tracelab.core.errors import ConfigError
from tracelab.core.outside import OutsideError, decode
from tracelab.view.keys import Key

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_BOUNDS = {"ge": ("min", False), "gt": ("min", True), "le": ("max", False), "lt": ("max", True)}
_METAVARS = {
    "model": "DIR", "endpoint": "URL", "judge_endpoint": "URL", "api_key_env": "VAR",
    "judge_api_key_env": "VAR", "environment": "SPEC", "format": "NAME",
}  # fmt: skip
_HELP_CHARS = 240
_WORD = re.compile(r"[\w.,/:+-]{1,32}")


class Amount(click.ParamType[int]):
    """A number of tokens: 200000, 200k, 1.5M."""

    name = "tokens"

    def __init__(self, least: int = 0) -> None:
        """Refuse less than `least`."""
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", str(value))
        amount = -1 if found is None else int(float(found[1]) * _UNITS[found[2].lower()])
        if amount < self.least:
            self.fail(f"{value!r} is no number of tokens; write 200000 or 200k", param, ctx)
        return amount


class Toml(click.ParamType[Any]):
    """A value in TOML's syntax, or JSON's, for what is neither a number nor a word; `{a = 1}`."""

    name = "toml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it."""
        if not isinstance(value, str):
            return value
        try:
            return tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            try:
                return decode(value)
            except OutsideError:
                self.fail(f"{value!r} is neither TOML ({{a = 1}}) nor JSON", param, ctx)


class KeyOption(click.Option):
    """An option that sets one key of a config."""

    def __init__(self, key: Key, *, bare: bool = False, otherwise: str = "") -> None:
        """Make it.

        Args:
            key: What it sets.
            bare: Without a default: something else says what holds when it is not given.
            otherwise: What that is, in words.
        """
        self.key = key
        kind, many = _kind(key)
        names = [_flag(n, many) for n in (*key.aliases, key.keyword)]
        default: Any = None if bare else key.default
        if many and default is not None:
            default = tuple(default)
        attrs: dict[str, Any] = {}
        if kind is bool:
            off = names[-1].replace("--", "--no-", 1)
            names[-1] += f"/{off}"
            attrs["default"] = None if bare else bool(default)
        else:
            attrs |= {"type": kind, "multiple": many, "default": default}
            attrs["metavar"] = _METAVARS.get(key.keyword, "NAME" if key.names and many else None)
        super().__init__(
            [*names, key.keyword],
            help=summary(key.info.description or "") + _listed(key) + _told(default, otherwise),
            show_default=not _told(default, otherwise) and default not in (None, ()),
            required=key.required and not bare,
            **attrs,
        )


def _flag(keyword: str, many: bool) -> str:
    word = keyword.removesuffix("s") if many else keyword
    return "--" + word.replace("_", "-")


def _kind(key: Key) -> tuple[Any, bool]:
    """The click type of a key, and whether it may be repeated."""
    hint, many = _plain(key.info.annotation), False
    if get_origin(hint) in (list, tuple, set):
        hint, many = _plain(get_args(hint)[0]), True
    if get_origin(hint) is Literal:
        return click.Choice([str(a) for a in get_args(hint)]), many
    if hint is str and key.names is not None and not many:
        return click.Choice([*key.names()]), many
    if hint not in (bool, int, float, str):
        return Toml(), False
    bounds: dict[str, Any] = {}
    for constraint in () if many else key.info.metadata:
        for name, (end, is_open) in _BOUNDS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                bounds[end] = limit
                if is_open:
                    bounds[f"{end}_open"] = True
    if hint is int and key.keyword.endswith("_tokens"):
        return Amount(bounds.get("min", 0)), many
    if hint in (int, float) and bounds:
        return (click.IntRange if hint is int else click.FloatRange)(**bounds), many
    return hint, many


def _plain(hint: Any) -> Any:
    """An annotation without None, and without what validates it."""
    if get_origin(hint) in (Union, UnionType):
        inner = [a for a in get_args(hint) if a is not NoneType]
        hint = inner[0] if len(inner) == 1 else hint
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def summary(text: str) -> str:
    """The first sentence of a docstring, and as many more as are read at a glance."""
    whole = " ".join(text.split())
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`(])", whole)
    shown = sentences[0]
    for sentence in sentences[1:]:
        if len(shown) + len(sentence) >= _HELP_CHARS:
            break
        shown += f" {sentence}"
    return shown if shown.endswith((".", ")", "?")) else shown.rstrip(";") + "."


def _listed(key: Key) -> str:
    """The names a key may have, where click does not list them itself."""
    if key.names is None or not (many := _kind(key)[1]) and key.keyword not in _METAVARS:
        return ""
    return f" {'Repeatable' if many else 'One of'}: {', '.join(key.names())}."


def _told(default: Any, otherwise: str) -> str:
    """A default in words, where click would not show it as it is typed."""
    if otherwise:
        return f" [default: {otherwise}]"
    if isinstance(default, str) and not _WORD.fullmatch(default):
        return f" [default: {json.dumps(default, ensure_ascii=False)}]"
    return ""


def given(ctx: click.Context) -> dict[str, Any]:
    """Values by config key of the options that were on the command line."""
    found: dict[str, Any] = {}
    for option in ctx.command.params:
        if isinstance(option, KeyOption) and option.name is not None:
            source = ctx.get_parameter_source(option.name)
            if source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
                value = ctx.params[option.name]
                found[option.key.path] = [*value] if option.multiple else value
    return found


def in_options(error: ConfigError, options: Iterable[click.Parameter]) -> ConfigError:
    """An error about config keys that tells of the options that set them."""
    flags: Mapping[str, str] = {o.key.path: o.opts[0] for o in options if isinstance(o, KeyOption)}

    def named(match: re.Match[str]) -> str:
        flag = flags.get(match[1])
        return match[0] if flag is None else f"`{flag}`"

    return ConfigError(re.sub(r"`([\w.]+?)(?:\.\d+)?`", named, str(error)))
