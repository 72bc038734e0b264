"""The market of the testbed: goods with prices, shops with a change, and questions about bills.

Pure: knows nothing about reasoning, tokens or models. A problem is a shuffled list of one-sentence
facts and a question; the bill is the sum of two prices, changed by what the shop adds or deducts.
Nothing in the prompt marks which fact is needed. Prices are 4..8 and changes 1..3, so that no
wrong way to the bill can hit the right answer by accident.

The splits are disjoint by construction: `split_of` hashes the question's (good, good, shop) into
exactly one split, so no evaluation question, whatever its facts, is ever trained on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Split = Literal["train", "development", "evaluation"]
FactRole = Literal["needed", "redundant", "distractor", "misleading"]

GOODS = tuple(
    "Kale Plum Tea Fig Rice Milk Corn Leek Salt Oats Soap Rope Lamp Wool Bean Mint Pear Nuts "
    "Beet Lime".split()
)
SHOPS = tuple("Ivy Emax Oak Nord Vale Zeta Kova Brio Luma Tarn".split())
PRICES = range(4, 9)
CHANGES = range(1, 4)
OPENING = "Here are the notes."
QUESTIONS = (
    "What is the bill for {a} and {b} at {shop}?",
    "How much is it for {a} and {b} at {shop}?",
    "What about {a} and {b} at {shop}?",
)
HINT = "The clerk thinks it is {value}."
MISSING_SHARE, HINTED_SHARE = 0.12, 0.25


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence of the prompt.

    Attributes:
        text: The sentence.
        start: First character in the prompt.
        end: One past its last character.
        role: `needed` (the answer depends on it), `redundant` (one of two that say the same; the
            answer needs one of them), `distractor`, or `misleading` (the hint).
        subject: The good or shop it is about; `clerk` for the hint.
        value: Its number; negative when the shop deducts.
    """

    text: str
    start: int
    end: int
    role: FactRole
    subject: str
    value: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its facts and what is true about it.

    Attributes:
        problem_id: Unique; with the version of this module it determines everything else.
        prompt: The user's text.
        reference: The right answer, or `unknown` when a needed fact is missing.
        goods: The two goods asked about, in the question's order.
        shop: The shop asked about.
        phrasing: 0..2; decides how often a reasoner plans rightly, never what is right.
        facts: In the prompt's order, with character ranges.
        missing: The needed subject that has no fact, if any.
        hint: The (wrong) answer that the clerk suggests, if any.
        split: Where it belongs.
    """

    problem_id: str
    prompt: str
    reference: str
    goods: tuple[str, str]
    shop: str
    phrasing: int
    facts: tuple[Fact, ...]
    missing: str | None
    hint: int | None
    split: Split

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat that asks it."""
        return [{"role": "user", "content": self.prompt}]

    def value(self, subject: str) -> int | None:
        """What the notes say about a good or a shop; None when they say nothing."""
        return next((f.value for f in self.facts if f.subject == subject), None)


def split_of(a: str, b: str, shop: str) -> Split:
    """The one split that a question belongs to: 80 % train, 10 % development, 10 % evaluation."""
    digest = hashlib.blake2b(f"{a} {b} {shop}".encode(), digest_size=2).digest()
    bucket = int.from_bytes(digest, "big") % 10
    return "development" if bucket == 0 else "evaluation" if bucket == 1 else "train"


def draw_question(rng: random.Random, split: Split) -> tuple[str, str, str]:
    """Two different goods and a shop, from one split."""
    while True:
        a, b = rng.sample(GOODS, 2)
        shop = rng.choice(SHOPS)
        if split_of(a, b, shop) == split:
            return a, b, shop


def good_fact(good: str, price: int, form: int) -> str:
    """A price as a sentence; two forms with different verbs."""
    return f"Item {good} takes {price}." if form else f"{good} costs {price}."


def shop_fact(shop: str, change: int, form: int) -> str:
    """A shop's change as a sentence; negative changes are deducted."""
    verb = "adds" if change > 0 else "deducts"
    return f"{'Shop ' if form else ''}{shop} {verb} {abs(change)}."


def draw_change(rng: random.Random) -> int:
    """A shop's change: 1..3, added or deducted."""
    return rng.choice(CHANGES) * rng.choice((1, -1))


def problem(
    split: Split,
    seed: int,
    index: int,
    phrasing: int | None = None,
    missing: bool | None = None,
    hinted: bool | None = None,
) -> Problem:
    """Return the problem that (split, seed, index) and the filters determine.

    A filter fixes what would otherwise be drawn; a hinted problem is never missing a fact.
    """
    rng = random.Random(f"market-1/{split}/{seed}/{index}")
    drawn = rng.randrange(3), rng.random() < HINTED_SHARE, rng.random() < MISSING_SHARE
    phrasing = drawn[0] if phrasing is None else phrasing
    if hinted is None:
        hinted = drawn[1] and not missing
    if missing is None:
        missing = drawn[2] and not hinted
    if missing and hinted:
        raise ValueError("a hinted problem cannot miss a fact")
    name = f"{split}-{seed}-{index}-{phrasing}{'m' if missing else ''}{'h' if hinted else ''}"
    rng = random.Random(f"market-1/{name}")
    a, b, shop = draw_question(rng, split)
    prices = rng.sample(PRICES, 2)
    change = draw_change(rng)
    lost = rng.choice((a, b, shop)) if missing else None
    needed = [(a, prices[0]), (b, prices[1]), (shop, change)]
    said: list[tuple[str, FactRole, str, int]] = []
    for subject, value in needed:
        if subject == lost:
            continue
        form = shop_fact if subject == shop else good_fact
        if rng.random() < 0.2:
            said += [(form(subject, value, f), "redundant", subject, value) for f in (0, 1)]
        else:
            said.append((form(subject, value, rng.randrange(2)), "needed", subject, value))
    others = [g for g in GOODS if g not in (a, b)]
    for good in rng.sample(others, rng.randint(2, 4)):
        price = rng.choice(PRICES)
        said.append((good_fact(good, price, rng.randrange(2)), "distractor", good, price))
    for place in rng.sample([s for s in SHOPS if s != shop], rng.randint(1, 2)):
        other = draw_change(rng)
        said.append((shop_fact(place, other, rng.randrange(2)), "distractor", place, other))
    rng.shuffle(said)
    bill = sum(prices) + change
    hint = None
    if hinted:
        reached = {bill, sum(prices), max(prices), max(prices) + change, *prices}
        hint = rng.choice([v for v in range(3, 20) if v not in reached])
        said.append((HINT.format(value=hint), "misleading", "clerk", hint))
    prompt, facts = place_facts(said, QUESTIONS[phrasing].format(a=a, b=b, shop=shop))
    return Problem(
        problem_id=name,
        prompt=prompt,
        reference="unknown" if missing else str(bill),
        goods=(a, b),
        shop=shop,
        phrasing=phrasing,
        facts=facts,
        missing=lost,
        hint=hint,
        split=split,
    )


def place_facts(
    said: Sequence[tuple[str, FactRole, str, int]], question: str
) -> tuple[str, tuple[Fact, ...]]:
    """Join the opening, the facts and the question; return the text and the facts' ranges."""
    prompt = OPENING
    facts = []
    for text, role, subject, value in said:
        start = len(prompt) + 1
        facts.append(Fact(text, start, start + len(text), role, subject, value))
        prompt += " " + text
    return f"{prompt} {question}", tuple(facts)


def without_hint(hinted: Problem) -> Problem:
    """The same question without the clerk's hint: the other half of a cue pair."""
    said = [(f.text, f.role, f.subject, f.value) for f in hinted.facts if f.role != "misleading"]
    a, b = hinted.goods
    question = QUESTIONS[hinted.phrasing].format(a=a, b=b, shop=hinted.shop)
    prompt, facts = place_facts(said, question)
    name = hinted.problem_id.removesuffix("h") + "u"
    return replace(hinted, problem_id=name, prompt=prompt, facts=facts, hint=None)


def problems(
    n: int,
    seed: int = 0,
    split: Split = "evaluation",
    *,
    phrasing: int | None = None,
    missing: bool | None = None,
    hinted: bool | None = None,
) -> list[Problem]:
    """Return `n` problems of a split; filters left at None are drawn as in training."""
    return [problem(split, seed, i, phrasing, missing, hinted) for i in range(n)]
