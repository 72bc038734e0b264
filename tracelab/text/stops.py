"""Does this stop end a sentence? Abbreviations, initials, list numbers, factorials, ellipses.

Pure and local: looks at a bounded number of characters on either side of the stop. Where a rule
must guess, it guesses as English mathematical prose needs it: "the answer is B. So" ends a
sentence, "J. Smith" does not.
"""

from __future__ import annotations

import re

_LOOK = 48  # characters looked at on either side
_LONGEST = 12  # no abbreviation is longer

NEVER = frozenset("e.g i.e eg ie vs cf viz i.i.d w.r.t s.t a.k.a et.al".split())
"""Never end a sentence."""

TITLES = frozenset(
    "Mr Mrs Ms Mx Dr Prof Rev Gen Col Capt Lt Sgt Gov Sen Rep Hon St Mt Messrs Mme Mlle".split()
)
"""Before a name; only so capitalised."""

REFERENCES = frozenset(
    "fig figs eq eqs eqn eqns sec secs ch chap vol p pp ex thm def prop lem cor ref refs prob"
    " para pt art ver nos".split()
)
"""Before a number, a formula or a label."""

SHORTENED = frozenset(
    "etc approx resp est avg std incl excl misc max min ft lb lbs oz hr hrs mins sq cu deg gal al"
    " dept coeff temp".split()
)
"""End a sentence only before a capital."""

NAMES = frozenset(
    "Inc Ltd Co Corp Jr Sr Bros Ave Blvd Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec".split()
)
"""End a sentence only before a word that starts sentences; only so capitalised."""

STARTERS = frozenset(
    "A After All Alternatively Also Although An And Another Are As At Because Both But By Can Each"
    " Either Even Every Finally First For From Given He Hence Here Hmm How However I If In Indeed"
    " Is It Its Let Likewise Maybe Moreover My Next No Not Note Now Oh Ok Okay On Once One Or Our"
    " Perhaps Second She Similarly Since So Some Still Substituting Suppose Take That The Their"
    " Then There Therefore These They This Those Though Thus To Using Wait We Well What When Where"
    " Which While Who Why With Yes Yet You Your".split()
)

_NEXT = re.compile(r"\s*[\"'“‘«(\[*_]*([^\W\d_]*)(.?)", re.DOTALL)
_MARKER = re.compile(
    r"\s*[*_>#\s]*(?:[-*+•]|\(?(?:\d{1,4}|[A-Za-z]|[ivx]{1,5}|[IVX]{1,5})[.)]|"
    r"(?:Step|Case|Part|Example|Problem|Question|Option|Method|Approach)\s+\w{1,4}\s*[.:)])?"
    r"[*_\s]*\Z"
)
_FACTORIAL = re.compile(r"(?:[\d)}\]]|(?<![^\W_])[^\W\d_])\Z")
_BEFORE_NAME = re.compile(r"(?:\b(?:by|and|called|named)|&|\b[A-Z][a-z]+|\b[A-Z]\.)\s+\Z")
_NOT_A_NAME = re.compile(
    r"\b(?:Option|Choice|Point|Plan|Case|Line|Angle|Statement|Part|Set|Let|Answer|Is|So|And|Of)\s+\Z"
)
_GLUED = frozenset(",;:)]}|")


def is_marker(text: str) -> bool:
    """Tell whether a would-be sentence is only a list marker or a label such as "Step 1."."""
    return len(text) <= _LOOK and _MARKER.match(text) is not None


def ends_sentence(text: str, start: int, stop: int, after: int, end: int) -> bool:
    """Decide one run of stops.

    Args:
        text: The text.
        start: Where the sentence in progress starts.
        stop: Where the run of stops starts.
        after: Where it ends.
        end: Where the closing quotes and brackets after it end; white space follows.
    """
    upcoming = _NEXT.match(text, end, min(len(text), end + 4 * _LOOK))
    assert upcoming is not None
    word, following = upcoming[1], upcoming[2]
    first = word[:1] or following
    if first in _GLUED:
        return False
    lower = first.islower()
    newline = "\n" in text[end : upcoming.start(1)]
    if lower and end > after and not newline:
        return False  # a quotation or an aside inside a sentence
    run = text[stop:after]
    before = text[max(start, stop - _LOOK) : stop]
    if run == "!":
        return not _FACTORIAL.search(before) or _starts(word, newline)
    if run.strip(".…"):  # ?, ?!, !!, and other scripts' full stops
        return True
    if run != ".":
        return (first.isupper() or newline) and before.rstrip()[-1:] not in tuple(",+-*/=<>")
    return _full_stop(text, start, stop, word, following, newline)


def _full_stop(text: str, start: int, stop: int, word: str, following: str, newline: bool) -> bool:
    if stop - start < _LOOK and is_marker(text[start : stop + 1]):
        return False
    at = stop
    while at > start and (text[at - 1].isalpha() or text[at - 1] == "."):
        at -= 1
        if stop - at > _LONGEST:
            return True
    token = text[at:stop].lstrip(".")
    if not token or text[at - 1 : at] == "\\":
        return True
    lead = text[max(start, stop - _LOOK) : stop - len(token)]
    lowered = token.lower()
    starter = word in STARTERS and not (len(word) == 1 and following == ".")
    capital = word[:1].isupper()
    if lowered in NEVER or token in TITLES:
        return False
    if token == "No":
        return not lead.strip() or not following.isdigit() or bool(word)
    if lowered in REFERENCES:
        label = len(word) == 1 and capital and not starter
        return bool(word) and capital and not label
    if lowered in SHORTENED:
        return capital or (newline and not word[:1].islower())
    dotted = "." in token and max(map(len, token.split("."))) <= 2  # U.S, Ph.D; not a.yaml
    if token in NAMES or dotted:
        return starter or (newline and capital)
    if len(token) == 1:
        return _after_letter(token, lead, word, following, starter)
    return True


def _after_letter(token: str, lead: str, word: str, following: str, starter: bool) -> bool:
    """Decide after a single letter: an initial, or the name of a point, option or variable."""
    if len(word) == 1 and word.isupper() and following == "." and token.isupper():
        return False  # J. R. R. Tolkien
    if token == "v":
        return not word[:1].isupper() or starter
    if starter or not token.isupper() or token == "I":
        return True
    if lead.rstrip()[-1:] in tuple(":,;"):
        return False  # options: A. this, B. that
    if not word[:1].isupper():
        return True
    if not lead.strip():
        return False
    return not _BEFORE_NAME.search(lead) or _NOT_A_NAME.search(lead) is not None


def _starts(word: str, newline: bool) -> bool:
    """Tell whether a capitalised word that is no variable follows."""
    return newline or (word[:1].isupper() and (len(word) > 1 or word in ("I", "A")))
