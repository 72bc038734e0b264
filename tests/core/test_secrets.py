"""Secrets are hidden by value, in every form in which they travel, and nothing else is changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tracelab.core import secrets
from tracelab.core.api_key import api_key
from tracelab.core.errors import ConfigError
from tracelab.core.options import KeyVariable, PlainUrl
from tracelab.core.secrets import (
    HIDDEN,
    hidden,
    hidden_json,
    keep_secret,
    keep_secrets_of,
    redacted,
    redacted_json,
)

KEY = "sk-proj-0a1B2c3D4e5F"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(secrets, "_known", [])
    yield


def test_a_key_that_was_read_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hidden(KEY) == KEY
    monkeypatch.setenv("SOME_KEY", KEY)
    assert api_key("SOME_KEY", "field") == KEY
    encoded = base64.b64encode(KEY.encode()).decode()
    for text in (KEY, f"Bearer {KEY}", f"x{KEY}y", encoded):
        assert KEY not in hidden(text) and HIDDEN in hidden(text)
        assert encoded not in hidden(text)
    assert KEY not in str(ConfigError(f"refused: {KEY}"))
    assert hidden_json({KEY: [KEY, 1, None]}) == {HIDDEN: [HIDDEN, 1, None]}


def test_a_short_key_does_not_change_words() -> None:
    keep_secret("pass")
    assert hidden("The pass is 4.") == "The pass is 4."
    assert "pass" not in hidden("Authorization: Bearer pass")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter22222@host/v1",
        "https://hunter22222@host/v1",
        "s3://id:hunter22222@bucket/runs",
        "https://user:p@hunter22222@host/v1",
        "https://host/file?X-Amz-Signature=hunter22222&a=1",
        "https://host/file?api_key=hunter22222",
        "https://host/file?a=1&access_token=hunter22222#x",
    ],
)
def test_credentials_in_urls_are_redacted(url: str) -> None:
    for text in (url, f"cannot reach '{url}': gone", f'{{"a": "{url}"}}'):
        assert "hunter22222" not in redacted(text) and "host" in redacted(text).replace(
            "bucket", "host"
        )
    assert "hunter22222" not in str(redacted_json({"runtime": {"journal": [url]}}))


def test_what_a_config_gives_away_is_known_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    keep_secrets_of(
        {"engine": {"server": {"api_key_env": "SOME_KEY"}}, "source": "ftp://u:hunter22222@h/x"}
    )
    assert "hunter22222" not in hidden("he said hunter22222") and KEY not in hidden(KEY)


class Endpoint(BaseModel):
    url: PlainUrl = ""
    key: KeyVariable | None = None


@pytest.mark.parametrize(
    "pasted",
    [
        KEY,
        "hf_AbCdEfGhIjKlMnOp",
        "sk_live_0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOi.eyJzdWIi.x",
        "0123456789abcdef",
        "gsk_abc",
    ],
)
def test_a_key_in_place_of_its_variable_is_refused_and_not_quoted(pasted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        api_key(pasted, "field")
    assert pasted not in str(refused.value) and "never the key itself" in str(refused.value)
    with pytest.raises(ValidationError):
        Endpoint(key=pasted)


def test_names_of_variables_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "MY_TOKEN_2", "NO_SUCH"):
        assert Endpoint(key=name).key == name
    monkeypatch.setenv("my_key9", "x")  # an unusual one counts where it is set
    assert Endpoint(key="my_key9").key == "my_key9"


@pytest.mark.parametrize("url", ["http://u:p4ssw0rd1@h/v1", "http://h/v1?key=p4ssw0rd1"])
def test_an_endpoint_holds_no_credentials(url: str) -> None:
    with pytest.raises(ValidationError, match="must not hold"):
        Endpoint(url=url)
    assert Endpoint(url="http://localhost:8000/v1").url == "http://localhost:8000/v1"


@given(st.text())
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert hidden(text) == text
    assert hidden_json([text]) == [text]


def test_a_path_is_no_url(tmp_path: Path) -> None:
    for text in (str(tmp_path), "a@b.c", "mailto:x@y.z", "https://host/a@b", "x = y?key:1"):
        assert redacted(text) == text
