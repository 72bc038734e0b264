"""Methods that ask, look, and ask again: generators that yield masks and are sent their values.

A `Question` yields bool masks [rows, n] and is sent one value a row (nats; NaN where the mask
failed). It returns its answer. An engine drives it without the method knowing engines:

    answer = ask(method(...), score)            # all at once, in a test or a notebook

or step by step with `next` and `send`, several contexts side by side. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Answer = TypeVar("Answer")
Question = Generator[Bools, Floats, Answer]


def ask(question: Question[Answer], score: Callable[[Bools], Floats]) -> Answer:
    """Drive a question to its end with a function from masks [rows, n] to values [rows]."""
    try:
        masks = next(question)
        while True:
            masks = question.send(np.asarray(score(masks), dtype=np.float64))
    except StopIteration as end:
        answer: Answer = end.value
        return answer
