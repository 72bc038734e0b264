"""An OpenAI-compatible completions server as an engine: token ids in, token ids and log-probs out.

Prompts go as token ids, so nothing is tokenised twice. Log-probabilities of a prompt are asked for
in one of two ways (`engine.server.scoring`):

    prompt_logprobs   vLLM's extension: a row a prompt token, by token id
    echo              `echo` with `logprobs` and no new token, as the first completions API had it;
                      tokens are checked where the server names them by id, else only their number

A reply counts only if it has a finite log-probability, at most 0, for every token that was asked,
about that very token, and was not read from a prefix cache. Whatever else comes is an error
observation, `kind: sentence`, with the kinds of `tracelab.engines.http` and

    missing        no log-probability, or too few       not_a_number   not finite
    wrong_token    a row about another token            cached         rows that were not computed
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from tracelab.core.api_key import api_key
from tracelab.core.errors import ModelLoadError, one_line
from tracelab.core.item import Item, Observation
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import EndpointError
from tracelab.engines.aio import SideBySide
from tracelab.engines.base import Counters, EngineSpec, failed, overlong
from tracelab.engines.http import MOST_BYTES, JsonPost
from tracelab.engines.openai.rows import checked, echoed, listed, part

_MOST_BYTES = 64 << 20
"""Of one reply: a row of a prompt token takes about 100 bytes."""


class OpenAIEngine:
    """Serves one model through somebody else's server."""

    capabilities = frozenset({"generate", "score", "prefix"})

    def __init__(self, spec: EngineSpec) -> None:
        """Ask the server which models it has.

        Args:
            spec: `options` as in `tracelab.engines.options.ServerConfig`.

        Raises:
            ModelLoadError: The server cannot be reached, refuses the key, or has no such
                model.
            ConfigError: The environment variable of the key holds none.
        """
        from tracelab.engines.tokenizer import HFTokenizer

        self.spec = spec
        self.counters = Counters()
        o = spec.options
        self._name = str(o.get("model") or spec.model.name)
        self._echo = o["scoring"] == "echo"
        self._concurrency = int(o["concurrency"])
        self._flying = SideBySide()
        self._url = str(o["endpoint"]).rstrip("/")
        self._key = api_key(o.get("api_key_env"), "engine.server.api_key_env")
        self._tokenizer = HFTokenizer(
            spec.path, trust_code=spec.trust_remote_code, template_options=spec.template_options
        )
        self._context = min(spec.context_length, self._look_up(float(o["timeout_s"])))

    def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.score`."""
        return self._all([(i, i.first_replicate) for i in items], self._score_one)

    def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.generate`. The server must return the tokens it writes (`return_token_ids`).

        Log-probabilities are only had where nothing is done to the distribution before sampling.
        """
        return self._all([(i, r) for i in items for r in i.replicate_range], self._generate_one)

    def halt(self) -> None:
        """See `Engine.halt`."""
        self._flying.keep(self._concurrency)  # the first ones: no other was let through

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _all(
        self, asked: Sequence[tuple[Item, int]], one: Callable[..., Any]
    ) -> AsyncGenerator[list[Observation], None]:
        o = self.spec.options
        # A client lives as long as the call: the next one may run in another event loop.
        http = JsonPost(
            f"{self._url}/completions", self._key, float(o["timeout_s"]), int(o["attempts"]),
            float(o["backoff_s"]), self._concurrency, _MOST_BYTES,
        )  # fmt: skip

        async def guarded(item: Item, replicate: int) -> list[Observation]:
            probe = item.target_ids is not None
            if too_long := overlong(item, self._context, probe_extra=int(probe)):
                return _only(too_long, replicate)
            try:
                return [await one(http, item, replicate)]
            except EndpointError as e:
                return _only(failed(item, e.kind, e.why), replicate)
            except Exception as e:  # a reply of any other shape is data
                why = f"{type(e).__name__}: {one_line(e, 200)}"
                return _only(failed(item, "malformed", why), replicate)

        works = [partial(guarded, item, replicate) for item, replicate in asked]
        try:
            async with aclosing(self._flying.run(works, most=self._concurrency)) as answers:
                async for found in answers:
                    yield found
        finally:
            await http.close()

    async def _score_one(self, http: JsonPost, item: Item, replicate: int) -> Observation:
        target = item.target_ids or ()
        ids = [*item.prefix_ids, *target]
        how: dict[str, Any] = (
            {"echo": True, "logprobs": 1, "max_tokens": 0, "return_tokens_as_token_ids": True}
            if self._echo
            else {"prompt_logprobs": 0, "max_tokens": 1}
        )
        reply, choice = await self._asked(http, {"prompt": ids, "temperature": 0.0, **how})
        cached = self._count(reply, len(ids), 0)
        if cached is not None and cached >= len(item.prefix_ids):
            raise EndpointError(
                "cached", f"{cached} tokens were read from the server's prefix cache"
            )
        rows = echoed(choice, len(ids)) if self._echo else listed(choice, len(ids))
        start = len(item.prefix_ids)
        values = tuple(
            checked(row, token, start + k)
            for k, (row, token) in enumerate(zip(rows[start:], target, strict=True))
        )
        return Observation(
            key=item.key, replicate=replicate, token_logprobs=values,
            prefix_tokens=start, cached_tokens=cached,
        )  # fmt: skip

    async def _generate_one(self, http: JsonPost, item: Item, replicate: int) -> Observation:
        s = item.sampling
        assert s is not None
        plain = s.temperature == 1 and s.top_p == 1 and s.top_k == 0
        if s.logprobs and not plain:
            raise EndpointError(
                "unsupported", "log-probabilities of a distribution that was changed"
            )
        body: dict[str, Any] = {
            "prompt": list(item.prefix_ids), "temperature": s.temperature, "top_p": s.top_p,
            "max_tokens": min(s.max_tokens, self._context - len(item.prefix_ids)),
            "seed": item.seed_of(replicate), "return_token_ids": True,
        }  # fmt: skip
        body |= {"top_k": s.top_k} if s.top_k else {}
        body |= {"stop": list(s.stop)} if s.stop else {}
        body |= {"logprobs": 1} if s.logprobs else {}
        if s.json_schema:
            body["structured_outputs"] = {"json": json.loads(s.json_schema)}
        reply, choice = await self._asked(http, body)
        ids = choice.get("token_ids")
        if not isinstance(ids, list) or not all(type(t) is int and t >= 0 for t in ids):
            raise EndpointError(
                "unsupported", "the server does not return the tokens that it wrote"
            )
        cached = self._count(reply, len(item.prefix_ids), len(ids))
        logprobs = None
        if s.logprobs:
            rows = part(choice, "logprobs").get("token_logprobs")
            if not isinstance(rows, list) or len(rows) != len(ids):
                raise EndpointError("missing", "not a log-probability for every token")
            logprobs = tuple(checked((None, v), t, k) for k, (v, t) in
                             enumerate(zip(rows, ids, strict=True)))  # fmt: skip
        text = self._tokenizer.decode(ids)
        at = min((at for word in s.stop if (at := text.find(word)) >= 0), default=None)
        return Observation(
            key=item.key, replicate=replicate, token_ids=tuple(ids), text=text[:at],
            finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
            token_logprobs=logprobs, prefix_tokens=len(item.prefix_ids), cached_tokens=cached,
        )  # fmt: skip

    async def _asked(
        self, http: JsonPost, body: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        content, _ = await http.post({"model": self._name, "n": 1, **body})
        try:
            reply = decode(content)
            choice = reply["choices"][0]
        except OutsideError as e:
            raise EndpointError("malformed", f"not a completion: {e}") from None
        except (LookupError, TypeError):
            raise EndpointError("malformed", "not a completion") from None
        if not isinstance(choice, dict):
            raise EndpointError("malformed", "not a completion")
        return reply, choice

    def _count(self, reply: dict[str, Any], prompt: int, written: int) -> int | None:
        """Add to the counters; the cached tokens, where the server tells."""
        usage = reply.get("usage")
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        known = cached if type(cached) is int and 0 <= cached <= prompt else None
        self.counters.prompt_tokens += prompt
        self.counters.generated_tokens += written
        self.counters.cached_tokens += known or 0
        return known

    def _look_up(self, timeout_s: float) -> int:
        """The model's context length at the server, as far as it tells."""
        import httpx

        # A small reply must not unpack to a large one, and a large one is no list of models.
        headers = {"Accept-Encoding": "identity"}
        headers |= {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        content, url = bytearray(), f"{self._url}/models"
        try:
            with httpx.stream("GET", url, headers=headers, timeout=timeout_s) as reply:
                for part in reply.iter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        break
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as e:
            raise ModelLoadError(
                f"engine.server.endpoint = {self._url!r}: cannot be reached ({type(e).__name__})"
            ) from None
        if reply.status_code in (401, 403):
            raise ModelLoadError(
                f"engine.server.endpoint = {self._url!r} refuses the key "
                f"({reply.status_code}); engine.server.api_key_env names the variable that holds it"
            )
        try:
            sizes = {str(m["id"]): m.get("max_model_len") for m in decode(bytes(content))["data"]}
        except (ValueError, LookupError, TypeError, AttributeError):
            return sys.maxsize  # a server without a list of models may still serve one
        if reply.status_code == 200 and sizes and self._name not in sizes:
            raise ModelLoadError(
                f"engine.server.endpoint = {self._url!r} has no model {self._name!r}; it has "
                f"{' '.join(', '.join(sizes).split())[:200]} (engine.server.model names one)"
            )
        size = sizes.get(self._name)
        return size if type(size) is int and size > 0 else sys.maxsize


def _only(observations: Sequence[Observation], replicate: int) -> list[Observation]:
    return [o for o in observations if o.replicate == replicate]
