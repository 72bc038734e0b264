"""Units of measure behind a number: which are one, and how many of one make another. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Measure", "measure", "split_measure"]

_LONGEST = 200

_TABLE: dict[str, tuple[str, str]] = {
    "length": ("1", "m meter metre"),
    "length:km": ("1000", "km kilometer kilometre"),
    "length:cm": ("1/100", "cm centimeter centimetre"),
    "length:mm": ("1/1000", "mm millimeter millimetre"),
    "length:um": ("1/1000000", "µm um micrometer micron"),
    "length:nm": ("1/1000000000", "nm nanometer"),
    "length:in": ("254/10000", "in inch inches"),
    "length:ft": ("3048/10000", "ft foot feet"),
    "length:yd": ("9144/10000", "yd yard"),
    "length:mi": ("1609344/1000", "mi mile"),
    "mass": ("1", "g gram gramme"),
    "mass:kg": ("1000", "kg kilogram kilo"),
    "mass:mg": ("1/1000", "mg milligram"),
    "mass:t": ("1000000", "tonne"),
    "mass:lb": ("45359237/100000", "lb lbs pound"),
    "mass:oz": ("45359237/1600000", "oz ounce"),
    "time": ("1", "s sec second"),
    "time:ms": ("1/1000", "ms millisecond"),
    "time:min": ("60", "min minute"),
    "time:h": ("3600", "h hr hour"),
    "time:day": ("86400", "day"),
    "time:week": ("604800", "week"),
    "month": ("1", "month"),
    "month:year": ("12", "year yr"),
    "volume": ("1", "l liter litre"),
    "volume:ml": ("1/1000", "ml milliliter millilitre"),
    "celsius": ("1", "°c celsius"),
    "fahrenheit": ("1", "°f fahrenheit"),
    "kelvin": ("1", "k kelvin"),
    "angle": ("1", "° deg degree"),
    "radian": ("1", "rad radian"),
    "percent": ("1", "%"),
    "dollar": ("1", "$ dollar usd buck"),
    "dollar:cent": ("1/100", "cent ¢"),
    "euro": ("1", "€ euro eur"),
    "sterling": ("1", "£ gbp"),
    "yen": ("1", "¥ yen yuan rmb cny jpy 元 円 块"),
    "rupee": ("1", "₹ rs inr rupee"),
    "won": ("1", "원 won krw"),
    "force": ("1", "n newton"),
    "energy": ("1", "j joule"),
    "energy:kj": ("1000", "kj kilojoule"),
    "power": ("1", "w watt"),
    "power:kw": ("1000", "kw kilowatt"),
    "voltage": ("1", "v volt"),
    "current": ("1", "a amp ampere"),
    "resistance": ("1", "ω ohm"),
    "frequency": ("1", "hz hertz"),
    "frequency:khz": ("1000", "khz"),
    "frequency:mhz": ("1000000", "mhz"),
    "pressure": ("1", "pa pascal"),
    "amount": ("1", "mol mole"),
}
_KNOWN = {
    name: (key.partition(":")[0], Fraction(factor))
    for key, (factor, names) in _TABLE.items()
    for name in names.split()
}
_KNOWN |= {"mph": ("length/time", Fraction(1609344, 3600000)),
           "kph": ("length/time", Fraction(1000, 3600)),
           "kmh": ("length/time", Fraction(1000, 3600))}  # fmt: skip

_NO_UNITS = frozenset(
    "or and more less than not no times plus minus over under hundred thousand million billion"
    " trillion dozen half double to mod if for at least most between except point sin cos tan log"
    " ln exp max min gcd lcm lim cot sec csc arcsin arccos arctan sqrt pi squared cubed is are"
    " choose if when where with".split()
)
_BEHIND = re.compile(
    r"(?P<body>.*?[\d})\]!])(?P<gap> ?)(?P<unit>[%¢€£¥₹$元円块원]|°(?: ?[CF](?![A-Za-z]))?"
    r"|(?:[A-Za-zµμΩ])[A-Za-zµμΩ. ]*+(?:\^ ?\{? ?[23] ?\}?)?"
    r"(?: ?/ ?[A-Za-z]++(?: ?\^ ?\{? ?[23] ?\}?)?)?)\Z"
)
_BEFORE = re.compile(
    r"(?P<sign>[-+]?) ?(?P<unit>US\$|[$€£¥₹]|USD|EUR|GBP|Rs\.?) ?(?P<body>.*\d.*)\Z"
)
_RAISED = re.compile(r"(.+?) ?\^ ?\{? ?([23]) ?\}?\Z")


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit: its dimension, and its size in that dimension; 0 for one that is only a word."""

    dimension: str
    factor: Fraction

    @property
    def known(self) -> bool:
        """Whether sizes of it can be compared with others."""
        return self.factor != 0


def split_measure(text: str) -> tuple[str, str]:
    """Take a unit off an answer: (what it measures, the unit or "")."""
    if len(text) > _LONGEST:
        return text, ""
    if (found := _BEFORE.match(text)) and "=" not in text:
        body, behind = split_measure(found["body"])
        same = not behind or measure(behind) == measure(found["unit"])
        return (found["sign"] + body, found["unit"]) if same else (text, "")
    found = _BEHIND.match(text)
    if found is None:
        return text, ""
    unit = found["unit"].strip()
    words = unit.lower().replace(".", " ").split()
    formula = re.sub(r"\\(?:frac|sqrt|pi|times|cdot)", "", found["body"])
    if unit == "°" and re.search("[A-Za-z]", formula):
        return text, ""  # of a function
    # One letter at a number is a variable; behind a space it is what `\text{ m}` leaves.
    if len(unit) == 1 and unit.isalpha() and unit.isascii():
        if not found["gap"] or unit.lower() not in _KNOWN or re.search("[A-Za-z]", formula):
            return text, ""
    elif _NO_UNITS & set(words) or (min(map(len, words), default=3) < 3 and not _known(unit)):
        return text, ""
    elif "^" in unit and measure(unit).known is False:
        return text, ""
    return found["body"], unit


def _known(unit: str) -> bool:
    return measure(unit).known


def measure(unit: str) -> Measure:
    """Read a unit as written; one that is not known is a word of its own."""
    text = " ".join(unit.lower().replace(".", " ").replace("us$", "$").replace("μ", "µ").split())
    top, slash, bottom = text.partition("/")
    if not slash:
        top, slash, bottom = text.partition(" per ")
    if slash:
        a, b = measure(top), measure(bottom)
        if a.known and b.known:
            return Measure(f"{a.dimension}/{b.dimension}", a.factor / b.factor)
        return Measure(f"{a.dimension}/{b.dimension}", Fraction(0))
    power = 1
    if found := _RAISED.match(text):
        text, power = found[1], int(found[2])
    for word, n in (("square", 2), ("sq", 2), ("cubic", 3), ("cu", 3)):
        if text.startswith(f"{word} "):
            text, power = text[len(word) + 1 :], n
    for word, n in (("squared", 2), ("cubed", 3)):
        if text.endswith(f" {word}"):
            text, power = text[: -len(word) - 1], n
    text = text.replace("° ", "°").replace("degrees ", "°").replace("°celsius", "°c")
    found_unit = _KNOWN.get(text) or (_KNOWN.get(text[:-1]) if text.endswith("s") else None)
    if found_unit is None:
        singular = text[:-1] if text.endswith("s") and len(text) > 3 else text
        return Measure(f"word {singular}", Fraction(0))
    dimension, factor = found_unit
    return Measure(dimension if power == 1 else f"{dimension}^{power}", factor**power)
