"""The rules by which `tracelab.text.categories` labels a sentence: named patterns, in order.

General English for reasoning of any kind: mathematics, agents, plain prose; no topic of the data
they were tuned on is in them. Every rule says what it looks for: none holds for whatever is left,
nor for a place in the trace alone. Every pattern is linear in the text, or nearly so, and the text
is cut to a few thousand characters before it comes here. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: it holds where its pattern is found and its limits are kept.

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


def _rule(
    name: str,
    category: str,
    pattern: str,
    *,
    words: tuple[int, int] = (0, 10**9),
    position: tuple[float, float] = (0.0, 1.0),
) -> Rule:
    return Rule(name, category, re.compile(pattern), words, position)


_ON = (
    r"^(?:(?:and|so|but|now|then|okay|ok|alright|well|wait|hmm|oh|ah|right|yes|first|next|also"
    r"|maybe|similarly"
    r"|perhaps|finally)\b,? ?)*"
)
_WE = r"(?:i|we|you|they|he|she|it|one)"
_FIRST_PERSON = (
    r"(?:let me|let's|let us|i'll|we'll|i will|we will|(?:i|we)(?:'d| would) (?:like|want) to"
    r"|(?:i|we) (?:can|could|should|might|may|need to|have to|want to)|i want to|i'm going to"
    r"|to(?= (?:do|solve|find|figure|get|see|handle)))"
)
_LITTLE = (
    r"(?: ?(?:just|also|first|now|then|next|quickly|simply|instead|maybe|again|actually|still))*"
)
_CALCULATE = (
    r"(?:re)?(?:comput|calculat|convert|multipl|subtract|add|sum|divid|simplif|substitut|plug"
    r"|evaluat"
    r"|expand|combin|cancel|round|factor|bring|differentiat|integrat|rank|count|square|tak|sett"
    r"|put)"
)
# A hyphen between digits is mostly a range of numbers; between spaces it is a minus.
_MATH = (
    r"[=≈⇒→∑≡]|\\(?:d?frac|cdot|times|sqrt|sum|prod|approx|pmod|div)(?![a-z])"
    r"|[\d)}] ?[+*/^×÷] ?[\d({\\]|[\d)}] - [\d({\\]|\d [<>≤≥] \d"
    r"|\d (?:plus|minus|times|divided by|multiplied by) \d"
)
# What a sentence can be about as the thing to be solved, or who wants it solved.
_TASK = r"(?:problem|question|task|puzzle|exercise|goal|job|user|customer|client|challenge)"
# Verbs by which something is said of a thing, rather than done.
_STATES = (
    r"(?:is|are|was|were|has|have|had|says?|said|states?|mentions?|returns?|returned|shows?"
    r"|contains?"
    r"|requires?|needs?|means|costs?|equals?|depends?|lies|takes?|allows?|defines?|matches|accepts"
    r"|catches|compares|raises|runs|gives?|comes?|cannot|can|will|must|stays?|works?|holds?"
    r"|belongs?"
    r"|includes?|uses?|makes?|leaves?|speaks?|lists?|tells?|happens?|consists?|occurs?|exists?"
    r"|dissociates?|ride|share|satisf(?:y|ies)|appears?|adds?|deducts?|cycles?|contributes?"
    r"|repeats?|reported?|called|found|took|represents?|corresponds?|starts?|ends?|goes|do(?:es)?)"
)

RULES: tuple[Rule, ...] = (
    _rule("final answer", "final_answer_emission", r"\\boxed|\bfinal answer\b|^\W*answer\W*:"),
    _rule(
        "the answer is", "final_answer_emission",
        r"^(?:so|thus|therefore|hence|in conclusion)?,? ?(?:the|my) (?:correct |best )?"
        r"(?:answer|solution) (?:is|should be|must be|would be)\b",
        position=(0.5, 1.0),
    ),
    _rule(
        "concludes at the end", "final_answer_emission",
        r"^(?:so|thus|therefore|hence|in conclusion),? the (?:number|value|total|result"
        r"|sum)\b.* is\b",
        position=(0.98, 1.0),
    ),
    _rule(
        "what is asked", "problem_setup",
        rf"\b(?:{_TASK} (?:is asking|asks|asked|wants|is about)\b|question (?:is|here is) (?:who"
        rf"|what"
        r"|which|whether|how|why|when|where)\b)"
        r"|^(?:so |okay,? )?(?:the )?(?:problem|question) is:"
        r"|\b(?:re-?read|clarify) the (?:problem|question|task)",
    ),
    _rule(
        "the problem says", "problem_setup",
        r"^(?:the|this) (?:problem|question|exercise) (?:says|states|gives) that",
    ),
    _rule(
        "task", "problem_setup",
        rf"\b(?:have|got|there's|there is) (?:this|a|the|to solve)\b.*\b{_TASK}\b"
        rf"|\b(?:the|this|my|our) {_TASK}(?: here)?"
        r" (?:is|was|asks?|says?|wants?|gives?|needs?|states?)\b"
        r"|\b(?:i'm|i am|we're|we are) (?:\w+ )?(?:given|asked|told|supposed|looking)\b"
        r"|\b(?:i|we) (?:need|have|want|(?:have )?got) (?:to (?:find|figure|determine|compute"
        r"|calculate"
        r"|solve|say|decide|know|explain|show)|the)\b"
        r"|^they (?:want|need|ask|would like)\b|\bi have access to\b",
        position=(0.0, 0.16),
    ),
    _rule(
        "givens", "problem_setup",
        r"^(?:okay|ok|alright|all right|so|well|hmm)\b,? ?.*\b(?:problem|question|need|have|given"
        r"|is|are"
        r"|leaves?|wants?|planning)\b|^(?:there (?:are|is)|suppose|given)\b",
        words=(4, 10**9), position=(0.0, 0.02),
    ),
    _rule(
        "confirms", "self_checking",
        r"✔|✓|^(?:yes|yep|yeah|correct|great|good|perfect|exactly|indeed|right(?=[,.!]))(?=\W|$)"
        r"|\b(?:that|this|which|it|everything|all|both|answer|approach|result|order|these|they)"
        r"(?:'s| is| are| was| seems?| looks?| must be| still)?(?: also| all| to be| indeed"
        r"| still)*"
        r" (?:correct|right|consistent|good|fine|checks? out|adds? up|match(?:es)?|agrees?|holds?"
        r"|works?"
        r"|fits?|confirms?)(?=\W|$)(?!.*\?)"
        r"|\bas expected\b|\bsame (?:result|value|answer|number)\b"
        r"|\bnothing (?:conflicts|contradicts|is wrong|broke)",
        words=(0, 14),
    ),
    _rule(
        "is indeed", "self_checking", r"\b(?:is|are|does|do) indeed\b", words=(0, 14),
    ),
    _rule(
        "checks", "self_checking",
        _ON + r"(?:just )?(?:let me|let's|i'll|to|i should|we should|i can|we can|i need to"
        r"|i want to)"
        rf"{_LITTLE} (?:double[- ]?check|re-?check|check(?! (?:the|a|each|which|what|for|if)\b)"
        rf"|verify"
        r"|confirm|recap|make sure|be (?:sure|safe)|validate|re-?read)"
        r"|^(?:double-?)?(?:checking|verifying|testing)\b|^just to (?:be sure|double|make sure"
        r"|confirm)"
        r"|^(?:let me |let's |i'll )check\b|\bto (?:make|be) sure\b|\bsanity check:",
    ),
    _rule(
        "doubts", "uncertainty_management",
        r"\b(?:mistake|confus\w+|contradict\w*|conflict\w*|discrepanc\w+|not (?:sure|certain)"
        r"|unsure"
        r"|unclear|uncertain|do(?:es)?(?:n't| not) (?:make sense|explain|seem|add up|look right"
        r"|match)"
        r"|overcomplicating|misunderst\w+|misread|overlook\w*|forgot|hold on|stuck|i wonder"
        r"|something(?:'s| is) (?:wrong|off)|can't be right|strange|weird|odd(?=,|\.| that"
        r"| because)"
        r"|i (?:do not|don't|can't|cannot) (?:know|remember|recall|understand|see (?:how|why))"
        r"|on the other hand"
        r"|(?:seems|looks|sounds) (?:off|odd|strange|wrong|too|low|high|unlikely|contradictory"
        r"|small|large))\b",
    ),
    _rule(
        "wait", "uncertainty_management",
        r"^(?:but |so,? |oh,? |no,? )*(?:wait|hmm|actually, no)\b\D*$", words=(0, 12),
    ),
    _rule("asks", "uncertainty_management", r"\?\W*$", words=(0, 20)),
    _rule(
        "objects", "uncertainty_management",
        r"^(?:but|however),? (?:wait|that|this|actually|i|the (?:problem|question))\b"
        r"|^(?:hmm|wait),? (?:but|that|this|maybe i|perhaps i|i|no)\b|^(?:let me|let's) (?:go"
        r"|step) back\b"
        r"|\b(?:maybe|perhaps) (?:i|we)(?:'m| am| made| have| had| missed| got| did|'ve) (?!to\b)"
        r"|^(?:so,? |wait,? |or )*(?:maybe|perhaps) (?!(?:i|we)\b|(?:it's |it is )?(?:better"
        r"|easier|best)"
        r"|(?:try|use|start|look|think|compute|consider)\b)"
        r"|\bi (?:might|may|must) (?:be|have)\b",
    ),
    _rule(
        "alternative", "plan_generation",
        _ON + r"(?:or )?(?:alternatively|another (?:way|approach|method|option|idea)|maybe|perhaps"
        r"|what if|instead,|(?:one|my) (?:way|approach|option|plan|idea))\b",
    ),
    _rule(
        "computes", "active_computation",
        _ON + rf"(?:{_FIRST_PERSON}{_LITTLE} )?(?:try )?{_CALCULATE}(?:e|es|ed|s|y|ying|ing|ting"
        rf"|ding|ling|ning)?\b.*[\d=]",
    ),
    _rule(
        "proposes", "plan_generation",
        _ON + rf"{_FIRST_PERSON}{_LITTLE} (?!(?:see|say) that\b|(?:have|get|conclude|deduce"
        rf"|infer)\b)[a-z]",
        words=(0, 30),
    ),
    _rule(
        "method", "plan_generation",
        r"\b(?:approach|strategy|plan (?:is|to)|step by step|one by one|(?:might|could|will"
        r"|would) help"
        r"|(?:better|simpler|different|good|easiest|best|easier|simplest|quickest) (?:way|method"
        r"|idea)"
        r"|moving on|do the same|try again|back to)\b",
    ),
    _rule(
        "recalls", "fact_retrieval",
        r"\b(?:i (?:remember|recall|know|believe)|we know|recall that|(?:well )?known (?:as|that"
        r"|to)"
        r"|by definition|is defined as|stands for|the formula|theorem|according to|refers to"
        r"|means that|in general)\b",
    ),
    _rule(
        "concludes", "result_consolidation",
        r"^(?:therefore|thus|hence|in (?:total|summary|conclusion|short|sum)|overall|to (?:sum"
        r"|wrap) up"
        r"|to (?:summari[sz]e|conclude)|summing up|all in all|altogether|all things considered"
        r"|(?:taken|putting|taking)\b.*together|it follows that|this (?:means|implies|shows|leaves)"
        r"|that(?: means| implies| shows| leaves|'s why| is why)|both (?:methods|ways"
        r"|approaches))\b(?!.*=)",
    ),
    _rule(
        "so", "result_consolidation",
        r"^so,? (?:far|in total|that's|there (?:are|is)|we (?:have|need|know)|both"
        r"|overall)\b(?!.*=)"
        r"|^so,? (?:the|they|it|he|she|at least|only|all|[a-z]) (?:\S+ )*?\b(?:is|are|must|cannot"
        r"|can't|has"
        r"|have|need|needs|takes?|meets?|fails|seems?|equals|only|repeats?|gets?|fits?|covers?)\b"
        r"(?!.*=(?!.* n\b))",
        words=(3, 16),
    ),
    _rule("calculates", "active_computation", _MATH, words=(0, 12)),
    _rule(
        "computes in words", "active_computation",
        _ON + rf"{_CALCULATE}(?:e|es|ed|s|y|ying|ing|ting|ding|ling|ning)?\b",
    ),
    _rule(
        "supposes", "active_computation",
        _ON + r"(?:if (?!(?:i|we)\b).*,|suppose|assume|assuming|say|let [a-z]\b|consider the case"
        r"|in (?:this|that) case)",
    ),
    _rule(
        "works out", "active_computation",
        r"^then\b(?!.*\d)|\b(?:this|that|it|which) (?:comes to|gives|makes|is about)\b|\b(?:we"
        r"|i) get\b"
        r"|, that is,? \d|\d (?:\w+ )?at \d",
    ),
    _rule(
        "leads in", "active_computation",
        r"\b(?:equations?|expressions?|becomes?|recurrence|(?:de|nu)\w+minators?|numerators?"
        r"|coefficients?|rewritten|into|substitut\w+)\b.*:$",
    ),
    _rule("introduces", "active_computation", r":$", words=(0, 3)),
    _rule(
        "states", "fact_retrieval",
        rf"^(?!(?:thus|therefore|hence)\b)(?!.*\b(?:let's|let me|i'll)\b).*\b{_STATES}\b",
        words=(2, 10**9),
    ),
    _rule("symbols", "active_computation", r"[\d\\=<>≈]|^\W+$", words=(0, 2)),
)  # fmt: skip
