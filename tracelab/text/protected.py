"""Stretches of text that no sentence boundary may split: LaTeX, inline code, URLs, code fences.

Each finder is given the place of an opener and returns the end of the stretch, or None when the
opener is never closed and is therefore plain text. None of them searches past what it can claim
without remembering that it failed, so a text of nothing but openers is still scanned in linear
time. Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left

_LONGEST = 8000  # characters between an opener and its closer; beyond it, the opener is a typo
_BLANK_LINE = re.compile(r"\n[^\S\n]*+\n")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\\\|\\(begin|end)\s*\{([A-Za-z]{1,20}\*?)\}")
_DISPLAY = re.compile(r"\\\\|\\[\[\]]")
_INLINE = re.compile(r"\\\\|\\[()]")
_DOLLAR = re.compile(r"\\.|\$\$?", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox)\s*\{[^{}]*\}")
_PROSE = re.compile(r"(?:[A-Za-z,']{2,}[.?!]?\s+){3}[A-Za-z']{2,}")
_TWO_WORDS = re.compile(r"(?<!\\)\b[a-z]{2,},? [a-z]{2,}\b")


class Protected:
    """The protected stretches of one text; asked from left to right."""

    def __init__(self, text: str) -> None:
        """Start at the beginning of a text."""
        self.text = text
        self._environments: dict[int, int] | None = None
        self._no_brace_before = 0
        self._blank = -1  # start of the first blank line at or after the last place asked
        self._fences: dict[str, list[tuple[int, int]]] = {}

    def paragraph_end(self, at: int) -> int:
        """Return where the paragraph that holds `at` ends."""
        if self._blank < at:
            found = _BLANK_LINE.search(self.text, at)
            self._blank = found.start() if found else len(self.text)
        return self._blank

    def display(self, at: int) -> int | None:
        r"""`\[ … \]`."""
        return self._delimited(at, _DISPLAY, r"\]", at + _LONGEST)

    def inline(self, at: int) -> int | None:
        r"""`\( … \)`, within a paragraph."""
        return self._delimited(at, _INLINE, r"\)", self.paragraph_end(at))

    def _delimited(self, at: int, token: re.Pattern[str], closer: str, end: int) -> int | None:
        place = at + 2
        while found := token.search(self.text, place, end):
            if found[0] == "\\\\":
                place = found.end()
                continue
            # A second opener first: the one asked about was never closed.
            return found.end() if found[0] == closer else None
        return None

    def dollars(self, at: int) -> int | None:
        """`$ … $` within a paragraph, or `$$ … $$`; None for a price."""
        text = self.text
        double = text.startswith("$$", at)
        place = at + (2 if double else 1)
        end = min(at + _LONGEST, len(text)) if double else self.paragraph_end(at)
        while found := _DOLLAR.search(text, place, end):
            if found[0][0] == "\\":
                place = found.end()
                continue
            body = text[at + (2 if double else 1) : found.start()]
            if double:
                closed = found[0] == "$$" and not _is_prose(body)
                return found.end() if closed else None
            return found.start() + 1 if _is_inline_math(body, text, found.start() + 1) else None
        return None

    def environment(self, at: int) -> int | None:
        r"""`\begin{name} … \end{name}`, nested ones of the same name included."""
        if self._environments is None:
            self._environments = {}
            begun: dict[str, list[int]] = {}
            for found in _ENVIRONMENT.finditer(self.text):
                if found[1] == "begin":
                    begun.setdefault(found[2], []).append(found.start())
                elif found[1] and begun.get(found[2]):
                    start = begun[found[2]].pop()
                    if found.end() - start <= _LONGEST:
                        self._environments[start] = found.end()
        return self._environments.get(at)

    def braces(self, brace: int) -> int | None:
        r"""`{ … }` of a command such as `\boxed`, within a paragraph."""
        if brace < self._no_brace_before:
            return None
        depth = 0
        end = self.paragraph_end(brace)
        for found in _BRACE.finditer(self.text, brace, end):
            if found[0] == "{":
                depth += 1
            elif found[0] == "}":
                depth -= 1
                if depth == 0:
                    return found.end()
        self._no_brace_before = end
        return None

    def fence(self, at: int, marker: str) -> int:
        """Return the end of the code block whose opening fence `marker` is at `at`.

        One that is never closed ends with its paragraph.
        """
        kind = marker[0]
        if kind not in self._fences:
            line = re.compile(rf"^[^\S\n]*({re.escape(kind)}{{3,}})[^\S\n]*$", re.MULTILINE)
            found = line.finditer(self.text)
            self._fences[kind] = [(m.start(1), len(m[1])) for m in found]
        fences = self._fences[kind]
        i = bisect_left(fences, (at + len(marker), 0))
        # A longer fence may enclose shorter ones. Looking at a few keeps hostile text linear.
        for start, length in fences[i : i + 16]:
            if length >= len(marker):
                return start + length
        return max(self.paragraph_end(at), at + len(marker))


def _is_prose(body: str) -> bool:
    """Two `$$` around ordinary sentences are two strays, not a formula."""
    return len(body) > _LONGEST or _PROSE.search(_TEXT.sub("", body)) is not None


def _is_inline_math(body: str, text: str, end: int) -> bool:
    """Tell `$x$` from `$5 and $10`."""
    if not body.strip():
        return False
    if body[0].isspace() != body[-1].isspace():
        return False
    if text[end : end + 1].isdigit() and body[0].isdigit():
        return False
    if "\\" in body:
        return True
    if body[0].isdigit() and _TWO_WORDS.search(body):
        return False
    return _PROSE.search(body) is None
