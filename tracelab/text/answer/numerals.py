r"""Numbers in the spellings that people and models use, as exact fractions.

`plain` folds characters (full-width, Arabic and Indian digits, minus signs, `√`, `½`, `²`) into
ASCII and LaTeX. `read_number` reads one whole answer: integers, decimals, groups of thousands
(`1,234`, `1 234`, `1.234,5`, `1'234.5`, `12,34,567`), fractions, mixed numbers, repeating
decimals, powers of ten, and number words of English and of Chinese and Japanese. It refuses what
has two readings: `1.234` is a decimal, `1,234` a thousand, `12,5` neither (`readings` has both).

Pure, and linear in the text, which is hostile; evaluates nothing.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

__all__ = ["FRACTION", "approximates", "last_number", "plain", "read_number", "readings"]

LONGEST = 200  # characters; longer ones stay text, so that nothing here is slow

_SIGNS = dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d\u207b", "-")
_SPACES = dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
                        "\u200a\u202f\u205f\u3000", " ")  # fmt: skip
_NOTHING = dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\ufeff\u061c", "")
_SYMBOLS = {
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ",
    "⩽": r"\le ", "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "≠": r"\ne ", "×": r"\times ",
    "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "ø": r"\emptyset ", "Ø": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "±": r"\pm ", "∓": r"\mp ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ",
    "γ": r"\gamma ", "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ",
    "∧": r"\wedge ", "∨": r"\vee ", "⁄": "/", "∕": "/", "∶": ":", "′": "'", "’": "'",
    "٫": ".", "٬": ",", "٪": "%", "،": ",", "、": ",", "º": "°", "˚": "°", "℃": "°C",
    "℉": "°F", "〜": "~", "。": ".", "｡": ".", "．": ".",
}  # fmt: skip
_SUPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUB = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_RAISED = re.compile(f"[{''.join(_SUPER)}]+")
_LOWERED = re.compile(f"[{''.join(_SUB)}]+")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")
_OVERLINED = re.compile("((?:[0-9][\u0304\u0305])+)")
_ODD = re.compile(r"[^\x00-\x7f]")


def plain(text: str) -> str:
    """Fold the spellings of digits, signs and mathematical characters; words stay as they are."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + "".join(_SUPER[c] for c in m[0]) + "}", text)
    text = _LOWERED.sub(lambda m: "_{" + "".join(_SUB[c] for c in m[0]) + "}", text)
    text = _VULGAR.sub(_vulgar, text)
    text = _OVERLINED.sub(lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[0])}}}", text)
    return _ODD.sub(lambda m: _folded(m[0]), text)


def _folded(char: str) -> str:
    for table in (_SIGNS, _SPACES, _NOTHING, _SYMBOLS):
        if char in table:
            return table[char]
    if "\uff01" <= char <= "\uff5e":
        return chr(ord(char) - 0xFEE0)
    digit = unicodedata.decimal(char, -1)
    if digit >= 0:
        return str(digit)
    wide = unicodedata.normalize("NFKC", char)  # mathematical letters, circled letters
    return wide if len(wide) == 1 and wide.isascii() and wide.isalnum() else char


def _vulgar(found: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/")


_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)\Z")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_INDIAN = re.compile(r"[+-]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?\Z")
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:[.,]\d+)?\Z")
_QUOTED = re.compile(r"[+-]?\d{1,3}(?:'\d{3})+(?:[.,]\d+)?\Z")
_DOTTED = re.compile(r"[+-]?\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})\Z")
_COMMA = re.compile(r"[+-]?\d+,\d+\Z")
_POWER = re.compile(
    r"(?P<head>[+-]?[\d.,]+) ?(?:\\times|\\cdot|\*|x|X) ?10 ?"
    r"(?:\^|\*\*) ?(?:\{ ?(?P<braced>[+-]?\d{1,3}) ?\}|\(?(?P<bare>[+-]?\d{1,3})\)?)\Z"
)
_SCIENTIFIC = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)[eE][+-]?\d{1,3}\Z")
_RATIO = re.compile(r"([+-]?\d+(?:\.\d+)?) ?/ ?([+-]?\d+(?:\.\d+)?)\Z")
FRACTION = re.compile(
    r"([+-]?) ?\\frac ?(?:\{ ?([+-]?\d+(?:\.\d+)?) ?\}|(\d))"
    r" ?(?:\{ ?([+-]?\d+(?:\.\d+)?) ?\}|(\d))\Z"
)
_MIXED = re.compile(r"([+-]?) ?(\d+) ?(?:\\frac|(?<= )(?:and )?(?=\d+ ?/))(.+)\Z")
_REPEATING = re.compile(
    r"([+-]?)(\d*)\.(\d*)(?:\\(?:overline|bar) ?(?:\{ ?(\d+) ?\}|(\d))|\((\d+)\))\Z"
)
_DOTS = re.compile(r"([+-]?)(\d*)\.(\d*)\\dot ?\{?(\d)\}?(?:(\d*)\\dot ?\{?(\d)\}?)?\Z")
_GOES_ON = re.compile(
    r"([+-]?)(\d*)\.(\d*?)(\d{1,6}?)\4{2,}\d{0,5}(?:\.\.\.|\u2026|\\ldots|\\dots)\Z"
)


def read_number(text: str) -> Fraction | None:
    """The exact value of an answer that is one number, after `plain`; None for anything else."""
    text = text.strip()
    if not text or len(text) > LONGEST:
        return None
    if not text.isascii():
        return _counted(text)
    if text[0] in "+-" and text[1:2] == " ":
        text = text[0] + text[1:].lstrip()
    last = text[-1]
    if not (last.isdigit() or last in ".})"):
        return _words(text) if last.isalpha() else None
    if any(p.match(text) for p in (_DECIMAL, _GROUPED, _SCIENTIFIC, _INDIAN)):
        return Fraction(text.replace(",", ""))
    if _SPACED.match(text) or _QUOTED.match(text):
        return Fraction(text.replace(" ", "").replace("'", "").replace(",", "."))
    if _DOTTED.match(text):
        return Fraction(text.replace(".", "").replace(",", "."))
    if found := _RATIO.match(text):
        return _divided("", found[1], found[2])
    if "\\" in text or "^" in text or "*" in text or "(" in text or "..." in text or " " in text:
        return _written(text)
    return None


def _written(text: str) -> Fraction | None:
    if found := FRACTION.match(text):
        return _divided(found[1], found[2] or found[3], found[4] or found[5])
    if found := _POWER.match(text):
        head = read_number(found["head"])
        power = int(found["braced"] or found["bare"])
        return None if head is None else head * Fraction(10) ** power
    if found := _REPEATING.match(text):
        return _repeating(found[1], found[2], found[3], found[4] or found[5] or found[6])
    if found := _DOTS.match(text):
        cycle = found[4] + (f"{found[5]}{found[6]}" if found[6] else "")
        return _repeating(found[1], found[2], found[3], cycle)
    if found := _GOES_ON.match(text):
        return _repeating(found[1], found[2], found[3], found[4])
    if found := _MIXED.match(text):
        rest = found[3] if "/" in found[3] and "\\" not in found[3] else "\\frac" + found[3]
        if rest.strip()[:1] in ("+", "-"):
            return None
        part = read_number(rest)
        if part is None or not 0 < part < 1:
            return None
        value = int(found[2]) + part
        return -value if found[1] == "-" else value
    return None


def _divided(sign: str, top: str, bottom: str) -> Fraction | None:
    below = Fraction(bottom)
    if below == 0:
        return None
    value = Fraction(top) / below
    return -value if sign == "-" else value


def _repeating(sign: str, whole: str, fixed: str, cycle: str) -> Fraction:
    scale = 10 ** len(fixed)
    value = Fraction(int(whole or 0)) + Fraction(int(fixed or 0), scale)
    value += Fraction(int(cycle), scale * (10 ** len(cycle) - 1))
    return -value if sign == "-" else value


_ONES = {w: i for i, w in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen".split())}  # fmt: skip
_TENS = {w: 10 * i for i, w in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def _words(text: str) -> Fraction | None:
    r"""`forty-two`, `minus one hundred and five`, `1.2 million`; None for other words."""
    parts = text.lower().replace("-", " ").split()
    if not parts or len(parts) > 12:
        return None
    if len(parts) > 1 and parts[-1] in _SCALES and parts[0][-1:].isdigit():
        head = read_number(" ".join(text.split()[:-1]))
        return None if head is None else head * _SCALES[parts[-1]]
    sign = 1
    if parts[0] in ("minus", "negative"):
        sign, parts = -1, parts[1:]
    total = current = 0
    last = ""
    for part in parts:
        if part == "and" and last in ("hundred", *_SCALES):
            continue
        if part in _ONES and last not in _ONES:
            current += _ONES[part]
        elif part in _TENS and last not in _ONES and last not in _TENS:
            current += _TENS[part]
        elif part == "hundred" and 0 < current < 10:
            current *= 100
        elif part in _SCALES and current:
            total, current = total + current * _SCALES[part], 0
        else:
            return None
        last = part
    return Fraction(sign * (total + current)) if last else None


_HAN = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_HAN_SMALL = {"十": 10, "百": 100, "千": 1000}
_HAN_LARGE = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8, "兆": 10**12}
_HAN_NUMBER = re.compile(r"[+-]?(?:\d[\d.,]*|[零一二三四五六七八九〇两兩十百千万萬億亿兆])+\Z")


def _counted(text: str) -> Fraction | None:
    r"""`四十二`, `12万`, `1億2000万`."""
    if not _HAN_NUMBER.match(text):
        return None
    sign = -1 if text[0] == "-" else 1
    total, section, digits = Fraction(0), Fraction(0), ""
    for char in text.lstrip("+-"):
        if char in _HAN_SMALL or char in _HAN_LARGE:
            value = Fraction(1) if not digits else read_number(digits)
            if value is None:
                return None
            digits = ""
            if char in _HAN_SMALL:
                section += value * _HAN_SMALL[char]
            else:
                section += value if value != 1 or not section else 0
                total, section = total + (section or 1) * _HAN_LARGE[char], Fraction(0)
        elif char in _HAN:
            digits = "" if digits == "0" else digits
            digits += str(_HAN[char])
        else:
            digits += char
    if digits:
        value = read_number(digits)
        if value is None:
            return None
        section += value
    return sign * (total + section)


def readings(text: str) -> tuple[Fraction, ...]:
    """The values that one number may have: also the decimal comma, which `read_number` refuses."""
    value = read_number(text)
    if value is not None:
        return (value,)
    return (Fraction(text.replace(",", ".")),) if _COMMA.match(text) else ()


def approximates(decimal: str, value: Fraction) -> bool:
    """Whether a decimal of six places or more is a value rounded, or cut, to its places."""
    text = decimal.strip().lstrip("+")
    if not _DECIMAL.match(text):
        return False
    places = len(text.partition(".")[2])
    if places < 6:
        return False
    scaled, written = abs(value) * 10**places, abs(Fraction(text)) * 10**places
    floor = scaled.numerator // scaled.denominator
    if (value < 0) != (Fraction(text) < 0) or floor == scaled:
        return False
    return written in (floor, round(scaled))


_IN_TEXT = re.compile(
    r"(?:(?<![\w)}\]])[-+])?"
    r"(?:\d{1,3}(?:\.\d{3}){1,9},\d+|\d{1,3}(?:\.\d{3}){2,9}(?![\d.])"
    r"|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)(?:\.\d+)?"
    r"|\d{1,3}(?:,\d{3}){1,9}(?!\d)(?:\.\d+)?|\d{1,3}(?:[ ']\d{3}){1,9}(?!\d)(?:[.,]\d+)?"
    r"|(?<!\d,)\d+,\d+(?![\d,]|\.\d)|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
    r"(?:[eE][-+]?\d{1,3}(?!\w)| {0,2}(?:\\times|\\cdot|\*|x) {0,2}10 ?(?:\^|\*\*) ?"
    r"(?:\{[-+]?\d{1,3}\}|[-+]?\d{1,3})|(?: \d{1,4})? ?/ ?\d+(?:\.\d+)?(?![\d/]))?"
    r"(?:[万萬億亿千](?:[\d.]{1,12}[万萬億亿千]){0,3}| (?:thousand|million|billion|trillion)\b)?"
)
_HAN_IN_TEXT = re.compile(r"[零一二三四五六七八九〇两兩十百千万萬億亿兆]+")


def last_number(text: str) -> str | None:
    """The last number in a text, as written; one with an open reading is a decimal."""
    text = plain(text)
    last: str | None = None
    for found in _IN_TEXT.finditer(text):
        last = found[0]
    if last is None and not text.isascii():
        for found in _HAN_IN_TEXT.finditer(text):
            last = found[0]
    return last
