"""The config section of engines."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tracelab.core.options import KeyVariable, PlainUrl, Section


class ServerConfig(Section):
    """`kind = "openai"` or `"chat"`: where the server is, and how it is asked."""

    endpoint: PlainUrl | None = None
    """Where the model is served, up to and without `/completions` or `/chat/completions`:
    `http://localhost:8000/v1`. Of an audit without `--engine openai` or `chat`: where the judges
    are."""
    model: str | None = None
    """The server's name for its model; default: `model` of the run, which for `openai` must be a
    directory or hub id with the same tokenizer."""
    api_key_env: KeyVariable | None = None
    """Environment variable that holds the server's key."""
    scoring: Literal["prompt_logprobs", "echo"] = "prompt_logprobs"
    """How log-probabilities of a prompt are asked for: vLLM's way, or the first completions
    API's."""
    timeout_s: float = Field(default=120.0, gt=0)
    """For a whole reply."""
    attempts: int = Field(default=5, ge=1)
    """Requests sent at most for one reply; 429, 408 and 5xx are asked again, as are broken
    connections."""
    backoff_s: float = Field(default=1.0, ge=0)
    """First wait before asking again; doubles; `Retry-After` is obeyed."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight."""
    input_price: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    output_price: float = Field(default=0.0, ge=0)
    """Price of a million tokens written."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Chat: requests are spread so that no minute has more."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Chat: the same for tokens of prompts and replies, as estimated before they are sent."""
    max_requests: int | None = Field(default=None, ge=0)
    """Chat: cap on the requests of the run, of all its sessions together."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Chat: cap on the tokens that the run reads and writes."""
    max_cost: float | None = Field(default=None, ge=0)
    """Chat: cap on what the run costs, in the unit of the prices."""
    choices: int = Field(default=1, ge=1)
    """Chat: replies asked for with one request (`n`), where several to one prompt are wanted: the
    prompt is then paid for once. Not every endpoint has it."""
    continuation: Literal["none", "vllm", "prefix", "partial", "prefill"] = "none"
    """Chat: how the endpoint continues an assistant's message that is given in part: `vllm` (also
    SGLang), `prefix` (DeepSeek, Mistral), `partial` (Moonshot, Qwen), `prefill` (it just does)."""
    reasoning: Literal["reasoning_content", "reasoning"] | None = None
    """Chat: the field in which reasoning of earlier turns is sent back; most want none."""
    rename: dict[str, str] = {}
    """Chat: what the endpoint calls fields of a request, `{max_tokens = "max_completion_tokens"}`;
    an empty name leaves the field out."""
    extra: dict[str, Any] = {}
    """Chat: more fields of every request, `{reasoning_effort = "low"}`. Part of what the model is:
    with others, a run is another one."""


class EngineConfig(Section):
    """Which engine serves the model, and how much of the machine it may use."""

    kind: str = "vllm"
    """`vllm` for real runs; `transformers` is the slow reference; `openai` a completions server and
    `chat` a chat endpoint elsewhere (see `server`); `scripted` is for tests; or an engine of an
    installed package."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU if this machine has one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of weights and arithmetic. float32 on CPU makes engines agree token for token."""
    max_model_len: int | None = Field(default=None, ge=16)
    """Context window, tokens; default: what the model's config.json says."""
    replicas: int = Field(default=1, ge=1)
    """Engine processes, one Ray actor each."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs per replica."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Rollouts decoded together per replica; more is faster until memory is full."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of GPU memory for weights and cache."""
    kv_cache_gib: int = Field(default=2, ge=1)
    """CPU only: GiB for the key-value cache of each replica."""
    cpu_threads: int = Field(default=1, ge=1)
    """CPU only: compute threads per replica; 1 is fastest for models of a few million weights."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model, as you, with your files and network. Without it, a
    model that needs its own code is refused, and nothing asks. Part of the run's record."""
    template_options: dict[str, Any] | None = None
    """What the model's chat template is told besides the messages: `{enable_thinking = false}`."""
    server: ServerConfig = ServerConfig()
    options: dict[str, Any] = {}
    """Settings of an engine of an installed package."""
