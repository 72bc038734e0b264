"""A tiny reasoning model whose causes are planted, and the world it lives in.

Importing this is light: no torch, no vllm. `MODEL_DIR` is the packaged model; `problems` asks the
questions it can answer.
"""

from pathlib import Path

from tracelab.testbed.market import Problem, problems

MODEL_DIR = Path(__file__).resolve().parent / "model"

__all__ = ["MODEL_DIR", "Problem", "problems"]
