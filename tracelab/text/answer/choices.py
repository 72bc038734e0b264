r"""Which option a text chooses: the letter, in the spellings of models and of many languages.

From the most to the least explicit, and of one kind the last that is not denied: a box, an
`<answer>` tag, JSON; what is said to be the answer (`the answer is B`, `正确答案是（B）`), is
called right (`option B is correct`, `Bが正解`), or stands alone on a line; the only line that
begins like an option (`B) Paris`); the only letter of a short text. Two letters at once choose
nothing.

Pure, and linear in the text, which is hostile.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tracelab.text.answer.forms import bare, extract_boxed
from tracelab.text.answer.stated import contained

__all__ = ["find_choice", "letter_of"]

_ALIASES = {
    "أ": "A", "ا": "A", "ب": "B", "ج": "C", "د": "D", "ه": "E",
    "অ": "A", "ক": "A", "খ": "B", "গ": "C", "ঘ": "D",
    "А": "A", "В": "B", "С": "C", "Е": "E",
}  # fmt: skip
_CIRCLED = {c: "ABCDEFGHI"[i] for i, c in enumerate("①②③④⑤⑥⑦⑧⑨")}
_ALONE = re.compile(rf"(?<![^\W_])[{''.join(_ALIASES)}](?![^\W_])")
_WIDE = re.compile("[\uff01-\uff5e\u249c-\u24e9\U0001f110-\U0001f189]")
_ZERO = re.compile("[\u200b-\u200f\u2060\ufeff]")

_SAYS = (
    r"(?:it(?:'s| is)|answers?|ans|choices?|options?|solution|response|selection|pick"
    r"|select(?:ed|s|ing)?|choos(?:e|es|ing)"
    r"|chose|chosen|go(?:ing)? with|opt for|conclusion|antwort|lösung|réponse|respuesta|opción"
    r"|resposta"
    r"|alternativa|opção|risposta|opzione|option|choix|ответ|вариант|відповідь|odpowiedź"
    r"|antwoord|cevap"
    r"|yanıt|đáp án|jawaban|svar|jibu|idahun|ìdáhùn|idáhùn|àmọ̀nà|àdáhùn|ànúgọ|àṣàyàn)(?!\w)"
)
_SAYS_ASIAN = (
    r"(?:答案|选项|選項|选择|選擇|应选|應選|故选|故選|選|选|答え|正解|解答|回答|答复|答曰|答|選択肢|정답|답변|답"
    r"|الإجابة|الجواب|إجابة|الاختيار|الخيار|उत्तर|विकल्प|উত্তর|উত্তরঃ|คำตอบ|ตอบ|پاسخ|תשובה)"
)
_LINK = (
    r"(?:[ \t*_]{0,3}(?:(?:is|are|was|be|would|should|must|seems?|appears?|to|likely|probably"
    r"|clearly"
    r"|therefore|thus|definitely|indeed|then|the|number|letter|option|choice|answer|statement"
    r"|correct"
    r"|right|best|most|final|here|ist|lautet|die|est|la|le|es|é|è|opción|option|opção|opzione"
    r"|lettre"
    r"|letra|lettera|вариант|jest|adalah|là|er)(?![A-Za-z])|:|=|→|->|هي|هو|الخيار|الصحيحة|الصحيح"
    r"|النهائية|النهائي|है|विकल्प|是|为|為|應為|应为|应该是|應該是|选项|選項|选|は|の|が|은|는|이|ः|：|ঃ)"
    r"[ \t]?){0,7}"
)
_QUOTE = r"[ \t*_\"'“‘「『（(\[{<【《$\\`]{0,8}(?:\\?(?:text|textbf|mathrm|mathbf|boxed)\{\(?)?"
_DENIED = re.compile(
    r"[)\]}>*_\"'”’」』】》$ \t]{0,6}(?:(?:is|are|was|ist|est|es|é|è)?[ \t]?(?:(?:not|n't|never"
    r"|nicht|pas|"
    r"no|não|non)\b|isn't|wrong|incorrect|false|eliminated|falsch|fausse|incorrecta|errad[oa]|"
    r"sbagliat[oa]|неверн|неправильн)|是?(?:错|錯|不)"
    r"|(?:では|じゃ)ない|は(?:誤|間違)|이? ?(?:아니|틀))",
    re.I,
)
_NOT_BEFORE = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|\bnicht|\bno|\bnão|\bnon|\bне|不是|不选|并非|非"
    r"|rule out|ruled out"
    r"|eliminat\w+:?|exclud\w+:?|reject\w*:?|wrong|incorrect(?: \w+)?(?: is| are)?:?)"
    r"[ \t*_\"'“(\[]{0,5}(?:option |choice |answer )?[ \t(\[*]{0,3}\Z",
    re.I,
)
_BUT = r"(?:but|rather|instead|sondern|sino|mas|ma|mais|а|而是|而應是|ではなく)"


_LATIN = r"A-Za-z0-9_\u00c0-\u024f"  # other scripts write no spaces around a letter
_ENDS = rf"(?![{_LATIN}]|['’][A-Za-z])"


class _Patterns:
    """What letters are looked for decides the patterns."""

    def __init__(self, letters: str) -> None:
        low = letters.lower()
        one = f"(?P<l>[{letters}]){_ENDS}"
        any_case = f"(?P<l>[{letters}{low}]){_ENDS}"
        ends = r"(?=[)\]}>*_\"'”’」』】》$ \t.。,、，:;；!！]{0,8}(?:$|\n))"
        self.phrase = re.compile(
            rf"(?:(?<![^\W_])(?i:{_SAYS})|{_SAYS_ASIAN})(?i:{_LINK}){_QUOTE}"
            rf"(?:(?i:not|nicht|不是) {{0,2}}\(?[{letters}{low}]\)?,? {{0,2}}(?i:{_BUT})"
            rf" {{0,2}}(?i:option )?{_QUOTE})?"
            rf"(?:{one}|(?<=[:：(（*= ])(?P<small>[{low}]){_ENDS}{ends}"
            rf"|(?<=[(（])(?P<round>[{low}])(?=[)）]))"
        )
        self.right = re.compile(
            rf"(?<![{_LATIN}'\\]){one}[)\]}}）】\"'”」*_.]{{0,4}}[ \t]?(?i:"
            r"(?:(?:option|choice|answer)[ \t])?(?:(?:is|must be|would be|seems|looks|was)[ \t]"
            r"(?:(?:the|clearly|indeed|most likely|probably|definitely|therefore|thus|also)["
            r" \t]){0,3}"
            r"(?:one that is[ \t])?(?:only[ \t])?"
            r"(?:correct|right|true|best|answer|most|valid|accurate|my answer|my choice|solution)"
            r"|ist[ \t](?:die[ \t])?(?:richtig|korrekt)|est[ \t](?:la[ \t])?(?:bonne|correct"
            r"|exact|vrai|juste|réponse)"
            r"|es[ \t](?:la[ \t])?(?:respuesta|correct|opción|verdader)|(?:está|é)[ \t](?:a["
            r" \t])?(?:corret|cert|resposta|alternativa)"
            r"|è[ \t](?:la[ \t])?(?:corrett|giust|rispost)|(?:—|-)?[ \t]?(?:верн|правильн|это"
            r" правильн)"
            r"|to poprawn|doğru)"
            r"|项?是?(?:正确|正確|对的|對的|答案)|是正|(?:が|は)(?:正|答)|です|だ(?![a-z])"
            r"|(?:가|이|번이)? ?(?:정답|맞|옳)|번?입니다"
            r"|هي الإجابة|هو الصحيح|سही|सही)"
        )
        self.line = re.compile(
            rf"^(?:[^\S\n]|[*#>($\\\[\"'“（【「_`-])*+(?:\\?(?:text|textbf|mathrm|boxed)\{{\(?)?"
            rf"(?:(?i:option|choice|answer)[ \t]+)?{one}(?:[^\S\n]|[*.)$\\\]\"'”}}）】」。_`!])*+$",
            re.MULTILINE,
        )
        self.option = re.compile(
            rf"^(?:[^\S\n]|[*#>_-])*+[(\[（]?{one}(?:[)\]）.:：、]|\*\*[.:)]?"
            rf"|[^\S\n]?[-–—,][^\S\n])[^\S\n]*\S",
            re.MULTILINE,
        )
        self.lone = re.compile(
            rf"(?<![{_LATIN}'\\.+*/^=-]){one}(?![ \t]?[=+^*/<>_(])(?!\.\w)(?![ \t](?:\w+ing|a|an"
            rf"|the)\b)"
        )
        self.either = re.compile(
            rf"[)\]*\"'” \t]{{0,4}}(?:or|and|/|&|或|和|und|oder|ou|et|o|y|または)["
            rf" \t(*\[]{{0,3}}[{letters}]{_ENDS}"
        )
        self.start = re.compile(
            rf"\A(?i:(?:the )?(?:final |correct )?(?:answer|option|choice)s?(?: is)?:?"
            rf" ?)?[(\[*\"' ]*{any_case}"
            r"(?P<rest>[)\].:*\"',]|$| -|\s)"
        )


@lru_cache(maxsize=64)
def _patterns(letters: str) -> _Patterns:
    return _Patterns(letters)


def _folded(text: str) -> str:
    if text.isascii():
        return text
    text = _ZERO.sub("", text)
    text = _WIDE.sub(_narrow, text)
    text = _ALONE.sub(lambda m: _ALIASES[m[0]], text)
    return re.sub("[①-⑨]", lambda m: _CIRCLED[m[0]], text)


def _narrow(found: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKC", found[0]).strip("()[]")
    if found[0] in "（）":
        return found[0]
    return (
        plain.upper()
        if len(plain) == 1 and plain.isalpha() and found[0] > "\uff5f"
        else (plain if len(plain) == 1 else found[0])
    )


def letter_of(answer: str, letters: str) -> str | None:
    r"""The option that an answer names: `B`, `(b)`, `B) 12`, `\textbf{(C)}\ 12`, `Option B`."""
    text = bare(_folded(answer)).strip(" $*")
    patterns = _patterns(letters)
    found = patterns.start.match(text)
    if found is None:
        return None
    rest = text[found.end("l") :]
    alone = not re.search(r"\w", rest)
    if patterns.either.match(rest) or re.match(rf"[) ]*,[ (]*[{letters}](?!\w)", rest):
        return None
    if not alone:
        marked = rest[:1] in (")", "]", ".", ":", "*") or rest.startswith((" -", " ("))
        said = re.match(r"(?:the |final |correct |answer|option|choice)", text, re.I)
        if not marked and not (
            said and found["l"].isupper() and re.match(r",| because| since", rest)
        ):
            return None
        if rest[:1] == "." and rest[1:2].isalnum():
            return None
    return found["l"].upper()


def find_choice(text: str, letters: str) -> str | None:
    """The letter that a text chooses, of `letters` (capitals); None where it chooses none."""
    for held in (extract_boxed(text), contained(text)):
        if held is not None and (letter := letter_of(held, letters)) is not None:
            return letter
    text = _folded(text)
    patterns = _patterns(letters)
    found: list[tuple[int, str | None]] = []
    for pattern in (patterns.phrase, patterns.right, patterns.line):
        for m in pattern.finditer(text):
            letter, at, end = _hit(m)
            if pattern is not patterns.line:
                if _refused(text, m.start(), at, end, letter, pattern is patterns.right):
                    continue
                if patterns.either.match(text, end):
                    letter = ""
            found.append((at, letter or None))
    if found:
        return max(found, key=lambda f: f[0])[1]
    options = {m["l"] for m in patterns.option.finditer(text)}
    if len(options) == 1:
        return options.pop()
    if len(options) > 1 or len(text) > 160 or text.rstrip().endswith(("?", "？")):
        return None
    if len(text) < 6 and (letter := letter_of(text, letters)) is not None:
        return letter
    if re.search(r"(?i)\b(?:neither|none)\b", text):
        return None
    alone = [m for m in patterns.lone.finditer(text)]
    kept = {
        m["l"]
        for m in alone
        if not _article(text, m["l"], m.end("l"))
        and not _DENIED.match(text, m.end("l"))
        and not _NOT_BEFORE.search(text[max(0, m.start() - 40) : m.start()])
    }
    return kept.pop() if len(kept) == 1 else None


def _hit(found: re.Match[str]) -> tuple[str, int, int]:
    for name in ("l", "small", "round"):
        if name in found.re.groupindex and found[name]:
            return found[name].upper(), found.start(name), found.end(name)
    raise AssertionError


def _article(text: str, letter: str, end: int) -> bool:
    """Whether an `A` or `I` begins a phrase: no letter of an option."""
    if letter not in "AI" or not (
        after := re.match(r"[ \t]+([a-z]+|[A-Z][a-z]+)", text[end : end + 24])
    ):
        return False
    return after[1] not in (
        "because", "since", "as", "for", "and", "but", "is", "which", "with", "in", "on", "or",
        "not", "rather", "due", "that", "by", "so", "ist", "est", "es", "weil", "car", "porque",
    )  # fmt: skip


def _refused(text: str, start: int, at: int, end: int, letter: str, called: bool) -> bool:
    if _article(text, letter, end) and not called:
        return True
    if _DENIED.match(text, end):
        return True
    before = text[max(0, at - 60) : at]
    if _NOT_BEFORE.search(before):
        return True
    line_end = text.find("\n", end)
    tail = text[end : end + 3 if line_end < 0 else min(line_end, end + 3)]
    if "?" in tail or "？" in tail:
        return True
    lead = text[max(0, start - 24) : start].lower()
    return bool(re.search(r"\b(?:if|suppose|whether|wrong|incorrect|not the)\b[^.\n]*\Z", lead))
