"""The testbed's world in one place: questions, chains of thought, and their labels.

Pure. `problems` asks (`market`), `write` reasons (`chain`), `label` reads (`labels`). Every fact
and every sentence carries its planted role; seeds make everything reproducible.
"""

from tracelab.testbed.chain import FILLER, PlantedSentence, Written, write
from tracelab.testbed.labels import answer_of, is_well_formed, label
from tracelab.testbed.market import Fact, Problem, Split, problem, problems, without_hint

__all__ = [
    "FILLER",
    "Fact",
    "PlantedSentence",
    "Problem",
    "Split",
    "Written",
    "answer_of",
    "is_well_formed",
    "label",
    "problem",
    "problems",
    "without_hint",
    "write",
]
