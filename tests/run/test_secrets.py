"""A key reaches neither the home nor any output, whoever says it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers import invoke
from tests.judge_server import Request, judge_server
from tests.studies.audit.test_audit_command import who_and_when
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.query import query, schema

SECRET = "sk-4f0c2e-ECHOED-9a7b"


def echo(r: Request) -> None:
    """Repeat the header in everything that can be kept: replies, escapes, errors."""
    header = r.headers["Authorization"]
    assert header == f"Bearer {SECRET}"
    says = f"Reason: you sent {header}\nAgent: {header}\nStep: 1"
    kind = r.number % 4
    if kind == 0:
        r.say(says)
    elif kind == 1:  # the same in JSON's escapes, which no search for bytes finds
        escaped = "".join(f"\\u{ord(c):04x}" for c in says)
        r.send(f'{{"choices": [{{"message": {{"content": "{escaped}"}}}}]}}'.encode())
    elif kind == 2:
        r.send(f"no such thing as {header}".encode(), 400)
    else:
        r.send(json.dumps({"error": header}).encode(), 500)


def everything(home: Path) -> str:
    """All that is kept under a home, decoded."""
    said = []
    for file in sorted(p for p in home.rglob("*") if p.is_file()):
        data = file.read_bytes()
        said.append(f"{file.name} {data.decode('utf-8', 'replace')}")
        if file.suffix == ".parquet":
            said.append(str(pq.read_table(file).to_pylist()))
    if (database := Home(home).database).exists():
        with open_reader(database) as con:
            for table in schema(con):
                said.append(str(query(con, f'FROM "{table.name}"').to_pylist()))
    return "\n".join(said)


def judged(folder: Path, url: str, **more: str) -> str:
    keys = {"endpoint": url, "model": "m", "api_key_env": "ECHO_KEY"} | more
    lines = [f"{k} = {json.dumps(v)}" for k, v in keys.items()]
    return (
        f'name = "j"\nstudy = "audit"\nsource = "{folder}"\nmodel = "testbed"\n'
        '[audit]\nopinions = ["all-at-once"]\n[audit.judge]\nattempts = 1\n' + "\n".join(lines)
    )


@pytest.mark.slow
def test_an_endpoint_that_echoes_the_key(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHO_KEY", SECRET)
    folder = who_and_when(tmp_path / "logs", 8)
    with judge_server(echo) as server:
        (tmp_path / "c.toml").write_text(judged(folder, server.url))
        ran = invoke("run", tmp_path / "c.toml")
        assert len(server.seen) == 8 and ran.exit_code == 3, ran.output
    kept = everything(home)
    assert "you sent [secret]" in kept, "the replies are kept, without the key"
    monkeypatch.delenv("ECHO_KEY")
    shown = invoke("query", "from verdicts", "--json").output + invoke("rebuild").output
    for text in (kept, everything(home), ran.output, shown):
        assert SECRET not in text and SECRET[3:] not in text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"api_key_env": SECRET}, "never the key itself"),
        ({"endpoint": f"http://user:{SECRET}@127.0.0.1:9/v1"}, "must not hold a user or password"),
        ({"endpoint": f"http://127.0.0.1:9/v1?key={SECRET}"}, "must not hold a query"),
    ],
)
def test_a_key_in_the_config_is_refused_and_not_repeated(
    tmp_path: Path, home: Path, more: dict[str, str], says: str
) -> None:
    folder = who_and_when(tmp_path / "logs", 1)
    (tmp_path / "c.toml").write_text(judged(folder, "http://127.0.0.1:9/v1", **more))
    given = [f"--set=audit.judge.{k}={v}" for k, v in more.items()]
    (tmp_path / "plain.toml").write_text(judged(folder, "http://127.0.0.1:9/v1"))
    for arguments in ([tmp_path / "c.toml"], [tmp_path / "plain.toml", *given]):
        ran = invoke("run", *arguments)
        assert ran.exit_code == 2 and says in ran.stderr, ran.output
        assert SECRET not in ran.output
    assert SECRET not in everything(home)


def test_credentials_of_a_journal_are_not_kept(tmp_path: Path, home: Path) -> None:
    folder = who_and_when(tmp_path / "logs", 2)
    config = tmp_path / "c.toml"
    for user in (f"me:{SECRET}", f"me:{SECRET}-changed"):  # another password is not another run
        config.write_text(
            f'name = "j"\nstudy = "audit"\nsource = "{folder}"\nmodel = "testbed"\n'
            '[audit]\nopinions = ["error-rule"]\n'
            f'[runtime]\njournal = "memory://{user}@journal"\n'
        )
        ran = invoke("run", config)
        assert ran.exit_code == 0, ran.output
        assert SECRET not in ran.output + everything(home)
