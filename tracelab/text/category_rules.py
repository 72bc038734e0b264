"""The rules by which `tracelab.text.categories` labels a sentence: named patterns, in order.

General English for reasoning of any kind: mathematics, agents, plain prose; no topic of the data
they were tuned on is in them. Every pattern is linear in the text, or nearly so, and the text is
cut to a few thousand characters before it comes here. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: it holds when its pattern is found and its limits are kept.

    Attributes:
        name: What `explain` reports.
        category: What follows from it.
        pattern: Searched in the lower-case sentence with single spaces.
        words: Fewest and most words (two letters or more in a row, LaTeX commands not counted).
        position: From and up to which share of the trace, index / total.
    """

    name: str
    category: str
    pattern: re.Pattern[str]
    words: tuple[int, int] = (0, 10**9)
    position: tuple[float, float] = (0.0, 1.0)

    def holds(self, text: str, words: int, position: float) -> bool:
        """Whether the rule applies to a normalised sentence."""
        return (
            self.words[0] <= words <= self.words[1]
            and self.position[0] <= position <= self.position[1]
            and self.pattern.search(text) is not None
        )


def _rule(
    name: str,
    category: str,
    pattern: str,
    *,
    words: tuple[int, int] = (0, 10**9),
    position: tuple[float, float] = (0.0, 1.0),
) -> Rule:
    return Rule(name, category, re.compile(pattern), words, position)


_ON = r"^(?:(?:and|so|but|now|then|okay|ok|alright|well|wait|hmm|oh|ah|first|next|also)\b,? ?)*"
_FIRST_PERSON = (
    r"(?:let me|let's|let us|i'll|we'll|i will|we will"
    r"|(?:i|we) (?:can|could|should|need to|have to)|i want to"
    r"|to(?= (?:do|solve|find|figure|get|see|handle)))"
)
_ACT = (
    r"(?:try|think|consider|break|use|start|go|look|find|figure|see|solve|approach|write|express"
    r"|search|open|ask|run|call|consult|fetch|model|proceed|focus|set up|determine|do|identify"
    r"|visuali[sz]e|parse|analy[sz]e|simplify|rewrite|get|handle|that|this)"
)
# A hyphen between digits is mostly a range of numbers; between spaces it is a minus.
_MATH = (
    r"[=≈⇒→∑]|\\(?:d?frac|cdot|times|sqrt|sum|prod|approx|pmod|div)(?![a-z])"
    r"|[\d)}] ?[+*/^×÷] ?[\d({\\]|[\d)}] - [\d({\\]"
    r"|\d (?:plus|minus|times|divided by|multiplied by) \d"
)

RULES: tuple[Rule, ...] = (
    _rule("final answer", "final_answer_emission", r"\\boxed|\bfinal answer\b"),
    _rule(
        "the answer is", "final_answer_emission",
        r"^(?:so|thus|therefore|hence)?,? ?(?:the|my) answer (?:is|should be|must be)\b",
        position=(0.5, 1.0),
    ),
    _rule(
        "concludes at the end", "final_answer_emission",
        r"^(?:so|thus|therefore|hence|in conclusion),? the (?:number|value|total|result)\b.* is\b",
        position=(0.98, 1.0),
    ),
    _rule(
        "task", "problem_setup",
        r"\b(?:have|got) (?:this|a|the|to solve)\b.*\b(?:problem|question|task|puzzle)\b"
        r"|\b(?:the|this) (?:problem|question|task|user)(?: here)?"
        r" (?:is|was|asks?|says?|wants?|gives?|needs?|states?)\b"
        r"|\b(?:i'm|i am|we're|we are) (?:given|asked|told|supposed)\b"
        r"|\bi (?:need|have|want) to (?:find|figure|determine|compute|calculate|solve)\b",
        position=(0.0, 0.05),
    ),
    _rule("opening", "problem_setup", "", position=(0.0, 0.012)),
    _rule(
        "what is asked", "problem_setup",
        r"\b(?:problem|question|task) (?:is asking|asks|wants|is about)\b"
        r"|^(?:the )?(?:problem|question) is:|\b(?:re-?read|clarify) the (?:problem|question|task)",
    ),
    _rule(
        "confirms", "self_checking",
        r"✔|✓|^(?:yes|yep|yeah|correct|great|good|perfect|exactly|indeed)(?=\W|$)"
        r"|\b(?:that|this|which|it|everything|all|both|answer|approach)"
        r"(?:'s| is| are| seems?| looks?| must be)?(?: also| all| to be| indeed| still)*"
        r" (?:correct|right|consistent|good|fine|checks? out|adds? up|matches)(?=\W*$)",
        words=(0, 14),
    ),
    _rule(
        "checks", "self_checking",
        _ON + r"(?:just to )?(?:let me|let's|i'll|to|i should|i can)(?: just| also| quickly)*"
        r" (?:double[- ]?check|re-?check|check|verify|confirm|recap|make sure)",
    ),
    _rule(
        "doubts", "uncertainty_management",
        r"\b(?:mistake|confus\w+|contradict\w*|conflicting|discrepanc\w+|not sure|unsure"
        r"|do(?:es)?(?:n't| not) make sense|overcomplicating|misunderst\w+|hold on|stuck"
        r"|something(?:'s| is) (?:wrong|off)|can't be right|strange|weird"
        r"|seems (?:off|odd|strange|wrong|too|unlikely|contradictory|small|large))\b",
    ),
    _rule(
        "wait", "uncertainty_management",
        r"^(?:but |so,? |oh,? |no,? )*(?:wait|hmm|actually, no)\b\D*$", words=(0, 12),
    ),
    _rule("asks", "uncertainty_management", r"\?$", words=(0, 20)),
    _rule(
        "objects", "uncertainty_management",
        r"^(?:but|however),? (?:wait|that|this|actually|i|we|the (?:problem|question)|it)\b"
        r"|^(?:hmm|wait),? (?:but|that|this|maybe i|perhaps i|i)\b"
        r"|\bmaybe i(?:'m| am| should| need| made| have)\b",
    ),
    _rule(
        "alternative", "plan_generation",
        _ON + r"(?:or )?(?:alternatively|another (?:way|approach|method|option)|maybe|perhaps"
        r"|what if|instead|one (?:way|approach|option))\b",
    ),
    _rule(
        "proposes", "plan_generation",
        _ON + rf"{_FIRST_PERSON} ?(?:just |also |first |now |then )*{_ACT}\b", words=(0, 30),
    ),
    _rule(
        "method", "plan_generation",
        r"\b(?:approach|strategy|plan|step by step|one by one|(?:might|could|will) help"
        r"|(?:better|simpler|different|good) way|moving on)\b",
    ),
    _rule(
        "recalls", "fact_retrieval",
        r"\b(?:i (?:remember|recall|know)|we know|recall that|known (?:as|that|to)|by definition"
        r"|is defined as|stands for|the formula|theorem|according to|refers to|means that"
        r"|in general)\b",
    ),
    _rule("calculates", "active_computation", _MATH, words=(0, 12)),
    _rule(
        "computes", "active_computation",
        _ON + r"(?:let me |let's |i'll )?(?:re)?(?:comput|calculat|convert|multipl|subtract|add"
        r"|sum|divid|simplif|substitut|plug|evaluat|expand|combin|cancel|round|factor|bring)\w*\b",
    ),
    _rule(
        "concludes", "result_consolidation",
        r"^(?:therefore|thus|hence|in (?:total|summary|conclusion)|overall|to sum up)\b",
    ),
    _rule(
        "so", "result_consolidation",
        r"^so,? (?:the|in total|that's|there are|we have|both)\b", words=(0, 14),
    ),
    _rule("introduces", "active_computation", r":$", words=(0, 3)),
    _rule("symbols", "active_computation", r"[\d\\=<>≈]|^\W+$", words=(0, 2)),
    _rule("states", "fact_retrieval", "", words=(3, 10**9)),
)  # fmt: skip
