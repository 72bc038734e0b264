"""One declaration, three doors: a study's model, its command's options, the keywords in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import click
import pytest
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

import tracelab
from tests.helpers import invoke, write_jsonl
from tracelab.cli import main
from tracelab.cli.options import KeyOption, Toml, summary
from tracelab.core.errors import ConfigError
from tracelab.core.finding import Findings
from tracelab.core.options import Section
from tracelab.core.study import STUDIES
from tracelab.engines.scripted import Script
from tracelab.view.keys import COMMON, MANNERS, asked, config_of, keys_of

OURS = ("anchors", "cite", "audit")


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def options(name: str) -> dict[str, KeyOption]:
    """Options of a command by the config key that they set."""
    return {p.key.path: p for p in command(name).params if isinstance(p, KeyOption)}


def fields(model: type[BaseModel], at: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a model and of its sections."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from fields(info.annotation, f"{at}.{name}")
        else:
            yield f"{at}.{name}", info


def words(text: str | None) -> str:
    return " ".join((text or "").split())


@pytest.mark.parametrize("study", OURS)
def test_every_option_of_a_model_is_an_option_and_a_keyword(study: str) -> None:
    by_key, function = options(study), getattr(tracelab, study)
    known = inspect.signature(function).parameters
    help_ = words(function.__doc__)
    for path, info in fields(STUDIES[study].Options, study):
        option, default = by_key[path], MANNERS[study].defaults.get(path, info.default)
        parameter = known[option.key.keyword]
        shown = list(option.default) if option.multiple else option.default
        assert shown == (False if default is False else default), path
        # `target` is declared by hand: data in memory may hold more than a text.
        assert parameter.default == default, path
        assert info.description, f"{path} has no docstring"
        assert (option.help or "").startswith(summary(info.description)), path
        if path != "cite.target":
            assert words(info.description) in help_, path
    for keyword, path in COMMON.items():
        assert path in by_key or keyword in MANNERS[study].aliases
        assert keyword in {w for k in keys_of(study).values() for w in (k.keyword, *k.aliases)}


@pytest.mark.parametrize("study", [*OURS, "run"])
def test_all_working_verbs_share_their_options(study: str) -> None:
    shared = (
        "--home --set --dry-run --json --limit --format --engine --model --seed --name --fresh "
        "--quiet --retry-errors --dtype --temperature --top-p --max-tokens --max-error-rate --wait"
    )
    flags = {o for p in command(study).params for o in p.opts}
    assert flags >= {*shared.split()}


DOCUMENTED = {
    "anchors": "--target-halfwidth --budget-tokens --rollouts --method --compat",
    "cite": "--ablations --unit --mode --target --method --prune --endpoint --served --api-key-env",
    "audit": "--environment --side-effects --opinion --judge --endpoint --api-key-env "
    "--max-requests --rollouts --export-tests --write-back",
}


@pytest.mark.parametrize("study", OURS)
def test_options_keep_their_names(study: str) -> None:
    flags = {o for p in command(study).params for o in p.opts}
    assert flags >= {*DOCUMENTED[study].split()}
    by_key = options("audit")
    assert by_key["engine.server.endpoint"].opts == ["--endpoint"]
    assert by_key["audit.judge.endpoint"].opts == ["--judge-endpoint"]


@pytest.mark.parametrize(
    ("engine", "mine"), [("vllm", "audit.judge"), ("openai", "engine.server"),
                         ("chat", "engine.server")]
)  # fmt: skip
def test_an_endpoint_is_the_models_where_it_is_served_and_else_the_judges(
    engine: str, mine: str
) -> None:
    given = {"engine.server.endpoint": "http://x/v1", "engine.server.max_requests": 3}
    asked_of = {"model": "m", "engine.kind": engine, "audit.opinions": ["a2p"], **given}
    config = config_of("audit", "logs", asked_of, where="audit")
    for section in (config.engine.server, config.options.judge):
        said = (section.endpoint, section.max_requests)
        own = section is (config.engine.server if mine == "engine.server" else config.options.judge)
        assert said == (("http://x/v1", 3) if own else (None, None))


class Inner(Section):
    """Who."""

    model: str | None = None
    """Its name."""
    max_tokens: int = Field(default=10, ge=0)
    """A cap."""


class ProbeOptions(Section):
    """Counts letters."""

    names: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {"letters": lambda: ["e", "t"]}

    letters: list[str] = ["e"]
    """Which letters."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """A share. It must be open at both ends, which is said at some length here so that the help of
    it would not be read by anybody who is in a hurry, and it goes on for longer than a terminal is
    wide, which is eighty columns in the docs of the commands, several times over."""
    how: Literal["upper", "lower"] = "upper"
    """Which case."""
    deep: bool = False
    """Whether to look twice."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """A budget."""
    limit: int = 3
    """Its own limit, which is not the number of traces."""
    who: Inner = Inner()


class Probe:
    """A study of another package."""

    name = "probe"
    Options = ProbeOptions
    metrics = ()
    estimator_version = "1"
    testbed = "questions"

    def cases(self, trace: Any, ctx: Any) -> Any:
        return []

    def run(self, cases: Any, ctx: Any) -> Any:
        yield from ()
        return Findings()


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from tracelab.run import config

    assert "probe" not in STUDIES
    monkeypatch.setitem(STUDIES._members, "probe", Probe)
    monkeypatch.setitem(STUDIES._order, "probe", 200)
    config._full.cache_clear()
    yield
    config._full.cache_clear()
    main.commands.pop("probe", None)


@pytest.mark.usefixtures("probe")
def test_a_study_of_another_package_has_a_command() -> None:
    shown = invoke("probe", "--help").stdout
    assert "Counts letters." in shown
    assert "tracelab probe my.jsonl --model DIR --dry-run" in shown
    for text in (
        "--letter NAME", "Repeatable: e, t.", "--how [upper|lower]", "--deep / --no-deep",
        "--budget-tokens TOKENS", "--probe-limit INTEGER", "--who-model TEXT",
        "--who-max-tokens TOKENS", "[default: 0.5; 0<x<1]", "[default: no-deep]",
    ):  # fmt: skip
        assert text in shown, text
    assert "several times over" not in shown, "help is cut to what is read at a glance"
    assert "probe" in invoke("--help").stdout
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.usefixtures("probe")
def test_only_what_was_given_goes_into_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from tracelab.cli import study

    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(study, "do", lambda config, *a, **k: seen.append(config) or 0)
    args = [
        "--letter",
        "e",
        "--letter",
        "t",
        "--budget-tokens",
        "1.5k",
        "--no-deep",
        "--limit",
        "2",
    ]
    assert invoke("probe", "x.jsonl", "y.jsonl", "--model", "m", *args).exit_code == 0
    [config] = seen
    assert config.source == "x.jsonl\ny.jsonl"  # type: ignore[attr-defined]
    o = config.options  # type: ignore[attr-defined]
    assert (o.letters, o.budget_tokens, o.deep, o.limit) == (["e", "t"], 1500, False, 3)
    assert o.model_fields_set == {"letters", "budget_tokens", "deep"}
    assert config.source_options.limit == 2  # type: ignore[attr-defined]
    assert config.name.startswith("probe-")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--delta", "3"], "'--delta': 3.0 is not in the range 0<x<1"),
        (["--method", "resampel"], '`--method` = ["resampel"]'),
        (["--budget-tokens", "lots"], "no number of tokens"),
        (["--name", "../x"], '`--name` = "../x"'),
        (["--set", "anchors.delte=1"], "did you mean `delta`?"),
        (["--segmenter", "nosuch"], "no segmenter 'nosuch'"),
        (["--table", "--dry-run"], "a forecast is shown as a table or with --json"),
        (["-"], "- is the only source"),
        (["--json", "--nosuch"], "No such option"),
    ],
)
def test_what_is_wrong_is_one_sentence_about_the_option(
    home: Path, tmp_path: Path, script: Script, args: list[str], says: str
) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", script, 1)
    result = invoke("anchors", source, *args, "--model", "scripted", "--engine", "scripted")
    assert result.exit_code == 2, result.output
    assert says in result.stderr.strip().splitlines()[-1]
    assert result.stdout == ""


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no option `rolouts`; did you mean `rollouts`\?"):
        tracelab.anchors({"prompt": "q", "response": "r"}, "scripted", rolouts=3)
    with pytest.raises(ConfigError, match="no option `environmnt`; did you mean `environment`"):
        tracelab.audit("x", environmnt="testbed")
    with pytest.raises(ConfigError, match="`cite.ablations` = 3"):
        tracelab.cite({"context": "c", "query": "q"}, "testbed", ablations=3)


def test_keywords_of_before_still_work() -> None:
    got = asked("audit", {"judge_model": "m", "endpoint": "http://x/v1", "max_requests": 3}, "t")
    judge = config_of("audit", "logs", {"model": "m", **got}, where="t").options.judge
    assert (judge.model, judge.endpoint, judge.max_requests) == ("m", "http://x/v1", 3)
    assert asked("cite", {"methods": (), "served": None, "api_key_env": "K"}, "t") == {
        "engine.server.api_key_env": "K"
    }
    assert "export_tests" in inspect.signature(tracelab.audit).parameters
    assert "source_format" in inspect.signature(tracelab.audit).parameters


def test_a_summary_ends_where_a_sentence_does() -> None:
    assert summary("How finely?\n    It is cut.") == "How finely? It is cut."
    assert summary("One. " + "Two is long. " * 40).count("Two") < 20
    assert summary("No stop") == "No stop."


@pytest.mark.parametrize("written", ["{a = false}", '{"a": false}'])
def test_a_table_is_written_as_toml_or_as_json(written: str) -> None:
    assert Toml().convert(written, None, None) == {"a": False}
