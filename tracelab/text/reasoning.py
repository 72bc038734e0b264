"""Sentences of reasoning, by offsets: `reasoning-v1`.

One pass over the tokens that can matter (stops, line breaks, openers of protected stretches);
`protected` says what may not be split, `stops` whether a stop ends a sentence, and this module
what a line break does: a blank line always separates, a single one does where the line before or
the line after is a list item, a heading or a code fence. A code fence is a unit of its own. A cut
that would leave nothing but punctuation or a list marker behind is not made. Pure; linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tracelab.text.protected import Protected
from tracelab.text.stops import ends_sentence, is_marker

_CLOSERS = "\"'”’»)\\]}*_」』）】》"
_CJK_STOPS = "。！？｡"
_FOOTNOTE = r"(?:\[\d{1,3}\])?"
_TOKEN = re.compile(
    r"\\(?P<open>\[|\()"
    r"|\\begin(?=\s*\{)(?P<environment>)"
    r"|\\[A-Za-z]++\*?(?=\{)(?P<command>)"
    r"|\\(?s:.)"
    r"|(?P<dollar>\$\$?)"
    r"|(?P<code>`++)"
    rf"|(?P<cjk>[{_CJK_STOPS}]++[{_CLOSERS}]*+)"
    rf"|(?P<stop>[.!?…؟۔।](?![^\W_])[.!?…]*+)(?P<closers>[{_CLOSERS}]*+{_FOOTNOTE})"
    r"|https?://[^\s$`\\]*[^\s$`\\.,;:!?)\]}'\"”*。！？]"
    r"|(?P<line>\n\s*+)"
)
_FENCE = re.compile(r"[ \t>]*+(?:(?:[-*+]|\d{1,3}[.)])[ \t]++)?(`{3,}+|~{3,}+)[^`\n]*+$", re.M)
_ITEM = re.compile(r"(?:[-*+•–]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{2,4})[.)])[^\S\n]+\S")
_HEADING = re.compile(r"#{1,6}[^\S\n]+\S|(?:\*\*|__)[^*_\n]{1,120}(?:\*\*|__):?[^\S\n]*$", re.M)
_RULE = re.compile(r"(?:[-*_=][^\S\n]?){3,}$", re.M)
_STOPPED = re.compile(rf"[.!?…:][{_CLOSERS}]*\Z")
_WORDLIKE = re.compile(r"[^\W_]")


def reasoning_cuts(text: str) -> list[int]:
    """Return the interior cuts of the default segmenter."""
    return _Scan(text).run()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.last = len(text.rstrip())
        self.protected = Protected(text)
        self.cuts: list[int] = []
        self.start = 0  # of the sentence in progress
        self.seen = 0  # up to where it is known to hold no letter or digit
        self.worded = False
        self.line = 0  # first non-blank character of the current line
        self.openers: dict[str, Callable[[int], int | None]] = {
            "[": self.protected.display,
            "(": self.protected.inline,
        }

    def run(self) -> list[int]:
        text = self.text
        self.line = len(text) - len(text.lstrip())
        at = self._fence(self.line)
        while found := _TOKEN.search(text, at):
            at = found.end()
            kind = found.lastgroup
            if kind == "closers":
                self._stop(found)
            elif kind == "line":
                at = self._line(found.start(), found.end())
            elif kind == "cjk":
                self._cut(found.end())
            elif kind is not None:
                at = self._skip(kind, found)
        return self.cuts

    def _cut(self, at: int) -> None:
        """End the sentence in progress at `at`, unless it or the rest would be empty."""
        if at >= self.last or not self._has_words(at):
            return
        if at - self.start <= 48 and is_marker(self.text[self.start : at]):
            return
        self.cuts.append(at)
        self.start = self.seen = at
        self.worded = False

    def _has_words(self, at: int) -> bool:
        if not self.worded:
            self.worded = _WORDLIKE.search(self.text, self.seen, at) is not None
            self.seen = at
        return self.worded

    def _stop(self, found: re.Match[str]) -> None:
        end = found.end()
        if not self.text[end : end + 1].isspace() or not self._has_words(end):
            return
        if ends_sentence(self.text, self.start, found.start(), found.end("stop"), end):
            self._cut(end)

    def _skip(self, kind: str, found: re.Match[str]) -> int:
        """Return where to go on after an opener: past what it protects, if it is closed."""
        at = found.start()
        end: int | None
        if kind == "open":
            end = self.openers[found["open"]](at)
        elif kind == "dollar":
            end = self.protected.dollars(at)
        elif kind == "environment":
            end = self.protected.environment(at)
        elif kind == "command":
            end = self.protected.braces(found.end())
        else:
            return self._code(found)
        if end is None:
            return found.end()
        if kind in ("open", "dollar"):
            display = found["open"] == "[" or found["dollar"] == "$$"
            self._after_formula(at, end, display)
        return end

    def _after_formula(self, at: int, end: int, display: bool) -> None:
        """End a sentence after a formula, if a capital follows.

        The formula must end with a stop of its own, or be displayed and end its line.
        """
        rest = self.text[end : end + 48]
        if not rest[:1].isspace() or not rest.lstrip("\"'“‘(*_ \t\r\n")[:1].isupper():
            return
        inner = self.text[max(at, end - 12) : end].rstrip("$\\])} \n\t")
        broken = display and "\n" in rest[: len(rest) - len(rest.lstrip())]
        if broken or inner[-1:] in (".", "?"):
            self._cut(end)

    def _code(self, found: re.Match[str]) -> int:
        """Inline code ends at the next run of as many backticks on the same line."""
        rest = self.text[found.end() : found.end() + 400].partition("\n")[0]
        close = rest.find(found["code"])
        return found.end() + (0 if close < 0 else close + len(found["code"]))

    def _line(self, start: int, end: int) -> int:
        """Handle the white space from a line break at `start` to the next line's text."""
        text = self.text
        while start > self.start and text[start - 1].isspace():
            start -= 1
        if end >= self.last:
            return end
        previous = self.line
        begin = text.rfind("\n", start, end) + 1
        self.line = end
        if _FENCE.match(text, begin):
            self._cut(start)
            return self._fence(end)
        blank = text.count("\n", start, end) > 1
        if blank or _ITEM.match(text, end) or _HEADING.match(text, end) or _RULE.match(text, end):
            self._cut(start)
        elif _HEADING.match(text, previous):
            self._cut(start)
        elif _ITEM.match(text, previous):
            indented = end > begin  # may go on with the item
            if not indented or _STOPPED.search(text, start - 4, start):
                self._cut(start)
        return end

    def _fence(self, at: int) -> int:
        """Skip a code block that starts on the line of `at`, and end a unit after it."""
        text = self.text
        begin = text.rfind("\n", 0, at) + 1
        found = _FENCE.match(text, begin)
        if found is None:
            return at
        end = self.protected.fence(found.start(1), found[1])
        self._cut(end)
        return end
