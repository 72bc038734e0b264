"""Sentences of reasoning, by offsets: `reasoning-v1`.

One pass over the tokens that can matter (stops, line breaks, openers of protected stretches);
`protected` says what may not be split, `stops` whether a stop ends a sentence, and this module
what a line break does: a blank line always separates, a single one does where the line before or
the line after is a list item, a heading, a row of a table or a code fence, and after a short line
that states something without a stop. A code fence is a unit of its own; no row and no line of
indented code is split. A stop that no space follows ends a sentence before a word that starts
sentences. Brackets and quotations that close behind a stop end none where text of a script without
spaces goes on. A cut that would leave nothing but punctuation or a list marker behind is not made.
Pure; linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tracelab.text.protected import Protected
from tracelab.text.stops import STARTERS, ends_sentence, is_marker

_CLOSERS = "\"'”’»)\\]}*_」』）】》"
_CJK_STOPS = "。！？｡．"
_ASIDE = {")": "(", "）": "（", "」": "「", "』": "『", "】": "【", "》": "《", "”": "“", "’": "‘"}
_GOES_ON = re.compile(r"[^\W\d_\x00-\x7f]")  # text in a script without spaces
_ASIDE_LONGEST = 200  # characters of an aside that are looked at
_NEXT_WORD = re.compile(r"[A-Za-z]+")
_VALUE = re.compile(r"[\d=]")
_WRAPPED = 60  # characters; lines of wrapped prose are longer
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
    # Stops that no space follows, as models write them: `we add.Then`, never `e.g.` or `a.yaml`.
    r"|(?<=[a-z0-9)\]]{2})(?P<tight>[.?!])(?=[A-Z][a-z]{1,14}[ ,'])"
    r"|(?P<line>\n\s*+)"
)
_FENCE = re.compile(r"[ \t>]*+(?:(?:[-*+]|\d{1,3}[.)])[ \t]++)?(`{3,}+|~{3,}+)[^`\n]*+$", re.M)
_ITEM = re.compile(r"(?:[-*+•–]|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{2,4})[.)])[^\S\n]+\S")
_HEADING = re.compile(r"#{1,6}[^\S\n]+\S|(?:\*\*|__)[^*_\n]{1,120}(?:\*\*|__):?[^\S\n]*$", re.M)
_RULE = re.compile(r"(?:[-*_=][^\S\n]?){3,}$", re.M)
_STOPPED = re.compile(rf"[.!?…:][{_CLOSERS}]*\Z")
_CODE = re.compile(
    r"#(?!#)|//|/\*|@\w|(?:def|class|return|import|from|if|elif|else|for|while|print|try|except|with"
    r"|const|let|var|function|int|public|private)\b.{0,80}?[:;({=]|return\b|import\b"
    r"|[A-Za-z_][\w.\[\]]{0,40} ?(?:[-+*/]?=(?!=)|\()"
)
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
                self._cjk(found)
            elif kind == "tight":
                self._tight(found)
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
        if self._whole_line() and "\n" not in self.text[end : end + 1]:
            return
        if ends_sentence(self.text, self.start, found.start(), found.end("stop"), end):
            self._cut(end)

    def _whole_line(self) -> bool:
        """Whether the current line is no prose: a row of a table, or indented code."""
        text, at = self.text, self.line
        if text[at : at + 1] == "|":
            return True
        indent = text[max(0, at - 8) : at].rpartition("\n")[2]
        deep = indent.endswith("    ") or "\t" in indent
        return deep and _CODE.match(text, at) is not None

    def _cjk(self, found: re.Match[str]) -> None:
        """End at a stop of a script without spaces, unless an aside or quotation goes on.

        A bracket or quotation that closes behind the stop closes inside the sentence when text
        follows at once: `彼は「はい。」と言った。`.
        """
        text, at, end = self.text, found.start(), found.end()
        if self._whole_line():
            return
        stop, previous = text[at], text[max(self.start, at - 1) : at]
        if stop == "．" and previous.isdecimal() and text[end : end + 1].isdecimal():
            return  # ３．５
        closer = text[end - 1]
        opener = _ASIDE.get(closer)
        if opener is not None:
            inside = text.rfind(opener, max(self.start, end - _ASIDE_LONGEST), at)
            led_in = inside >= 0 and _WORDLIKE.search(text, self.start, inside) is not None
            if led_in and _GOES_ON.match(text, end):
                return
        elif self._in_aside(at) and _GOES_ON.match(text, end):
            return
        self._cut(end)

    def _in_aside(self, at: int) -> bool:
        """Whether a bracket or quotation that began behind other words of the sentence is open."""
        begin = max(self.start, at - _ASIDE_LONGEST)
        for closer, opener in _ASIDE.items():
            if opener < "\u2000":
                continue
            inside = self.text.rfind(opener, begin, at)
            if inside < 0 or self.text.find(closer, inside, at) >= 0:
                continue
            if self.text.find(closer, at, at + _ASIDE_LONGEST) >= 0 and (
                _WORDLIKE.search(self.text, self.start, inside)
            ):
                return True
        return False

    def _tight(self, found: re.Match[str]) -> None:
        """End at a stop that a sentence follows without a space."""
        at = found.start("tight")
        word = _NEXT_WORD.match(self.text, at + 1)
        if word is None or word[0] not in STARTERS or len(word[0]) < 2 or self._whole_line():
            return
        if re.search(r"(?:https?:|www\.|[\w.]@)\S*\Z", self.text[max(self.start, at - 60) : at]):
            return
        if self._has_words(at + 1):
            self._cut(at + 1)

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
        elif text[end] == "|" or text[previous] == "|":
            self._cut(start)  # rows of a table, and what is beside it
        elif start - previous < _WRAPPED and begin == end and self._new_statement(start, end):
            self._cut(start)
        elif _ITEM.match(text, previous):
            indented = end > begin  # may go on with the item
            if not indented or _STOPPED.search(text, start - 4, start):
                self._cut(start)
        return end

    def _new_statement(self, start: int, end: int) -> bool:
        """Whether a short line without a stop is a statement: the next begins like one.

        Titles are none: a value is stated, or the next line goes on to another statement.
        """
        if self.text[start - 1] in ",:;-+=(&>\\" or not self.text[end].isupper():
            return False
        word = _NEXT_WORD.match(self.text, end)
        goes_on = word is not None and word[0] in STARTERS
        if (
            not goes_on
            and _VALUE.search(self.text, self.text.rfind("\n", 0, start) + 1, start) is None
        ):
            return False
        return self._has_words(start)

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
