r"""Where a text states its answer, if not in a box: tags, JSON, `#### 42`, headings, sentences.

`stated` takes, of what a text holds, the kind that is most explicit, and of that the last:
`<answer>…</answer>`; a JSON object with an answer; `#### 42`; a heading or label (`### Answer`,
`**Final Answer:**`) with its line; a sentence that says what the answer is, in the languages of
`_ANSWERS`. A sentence that asks ("is the answer 5?") states nothing.

Pure, and linear in the text, which is hostile.
"""

from __future__ import annotations

import re

from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.text.answer.forms import boxes, extract_boxed

__all__ = ["contained", "given_answer", "only_value", "stated"]

_LONGEST = 300  # characters of an answer that is not in a box

_TAG = re.compile(r"<(?:final_?)?answer>(.{0,2000}?)</(?:final_?)?answer>", re.I | re.DOTALL)
_OPEN_TAG = re.compile(r"<(?:final_?)?answer>\s*([^<\n]{1,300})\s*\Z", re.I)
_JSON = re.compile(
    r"[\"'](?:final[_ ]?answer|correct[_ ]?answer|correct[_ ]?option|answer|solution|result|choice"
    r"|option|prediction|respuesta|antwort|答案)[\"'] ?: ?"
    r"(\"(?:[^\"\\\n]|\\.){0,500}\"|'[^'\n]{0,500}'|-?\d[\d.,eE+-]*|true|false"
    r"|\[[^\[\]\n]{0,500}\])",
    re.I,
)
_HASHES = re.compile(r"^[ \t]*#{3,6}[ \t]*([^#\n]{1,300})$", re.M)
_VALUE = re.compile(r"[*_$\\(\[{\s]*[-+]?[$€£¥]?\\?\(?\{?[-+]?(?:\d|\\frac|\\sqrt|\\pi)")
_NO_VALUE = re.compile(r"[\w]+[.)]? +[^\W\d_]{2,}|.*[^\W\d_]{3,}.*:")

_ANSWERS = (
    r"(?:final |correct |right |best )?(?:answer|ans)\b|(?:final |correct )?(?:result|solution)\b"
    r"|antwort|lösung|ergebnis|réponse(?: finale)?|résultat|respuesta|solución|resultado|resposta"
    r"|risposta|soluzione|ответ|відповідь|odpowiedź|antwoord|cevap|yanıt|đáp án|jawaban|svar(?:et)?"
    r"|答案|答复|答え|回答|解答|正解|答|정답|답변|답|الإجابة|الجواب|إجابة|उत्तर|উত্তর|คำตอบ|پاسخ"
    r"|jibu|ìdáhùn|idahun"
)
_IS = (
    r"(?: (?:to|of|for|in|is)\b[^\n.:=?]{0,60}?)??[*_\s]{0,3}(?:\b(?:is|are|was|be|equals|ist"
    r"|lautet"
    r"|est|es|é|è|jest|to|adalah|là|er)\b|هي|هو|है|[=:：]|(?:应该|應該)?(?:是|为|為)|は|은|는|—|-)"
)
_SENTENCE = re.compile(
    rf"(?<![^\W_])(?:{_ANSWERS})(?:{_IS})[ \t*_]{{0,4}}:?[ \t*_]{{0,4}}(?=\S)([^\n]{{1,300}})", re.I
)
_ASIAN = re.compile(
    r"(?:答案|答复|答え|回答|解答|正解|正确答案|정답|답변|답)[*_\s]{0,3}"
    r"(?:[:：=]|(?:应该|應該)?(?:是|为|為)|は|은|는|이)?[:： *]{0,4}(?=\S)([^\n]{1,300})"
)
_HEADING = re.compile(
    rf"^[ \t]*(?:#{{1,6}}|\*\*|__)[ \t*_]*(?:the )?(?:{_ANSWERS})[ \t]*:?[ \t]*(?:\*\*|__)?:?["
    rf" \t]*$"
    r"\n\s{0,8}([^\n]{1,300})",
    re.I | re.M,
)
_STOP = re.compile(
    r"[.!](?=\s+[^\W\d_a-z]|\s*$)|[。！？!?]|(?<=[\w)}$])(?:입니다|이다|です|だ|である)"
)
_AFTER = re.compile(
    r"(?:,? (?:because|since|as|so|which|where|and not|not|but not|rather than|when|for all)\b"
    r"|[;；]| \(| [—–-] |，|、(?=[^\d]))"
)
_MARKDOWN = re.compile(r"[*_`]{1,3}")


def contained(text: str) -> str | None:
    r"""What the last `<answer>` tag, or else the last JSON object, gives as the answer."""
    last: str | None = None
    if "answer>" in text.lower():
        for found in _TAG.finditer(text):
            if found[1].strip():
                last = found[1].strip()
        if last is None and (cut := _OPEN_TAG.search(text)):
            last = cut[1].strip()
    if last is not None:
        return _inside(last)
    if ":" in text and ("{" in text or '"' in text):
        for found in _JSON.finditer(text):
            value = found[1]
            if value[0] == '"':
                try:
                    last = str(decode(value, depth=INNER_DEPTH))
                except OutsideError:
                    last = value[1:-1]
            else:
                last = value.strip("'")
    return None if last is None or not last.strip() else last.strip()


def _inside(text: str) -> str:
    """What stands in a tag may be boxed, or say more."""
    boxed = extract_boxed(text)
    if boxed is not None:
        return boxed
    if "\n" in text or len(text.split()) > 3:
        return stated(text) or text
    return text


def given_answer(reference: str) -> str:
    """The answer of a reference that is a whole solution (`… #### 42`, a box), else itself."""
    if "\\boxed" in reference or "\\fbox" in reference:
        return extract_boxed(reference) or reference
    if "####" in reference and (found := _HASHES.findall(reference)):
        return str(found[-1]).strip()
    if "answer>" in reference.lower() or reference.lstrip().startswith("{"):
        return contained(reference) or reference
    return reference


def stated(text: str) -> str | None:
    """The answer that a text without a box states; None where it states none."""
    if (found := contained(text)) is not None:
        return found
    if "###" in text and (marked := _hashed(text)) is not None:
        return marked
    headings = [(m.start(1), m[1]) for m in _HEADING.finditer(text)]
    said = [(m.start(1), m[1]) for p in (_SENTENCE, _ASIAN) for m in p.finditer(text)]
    for _, line in sorted([*headings, *said], reverse=True):
        if answer := _value_of(line):
            return answer
    return None


def _hashed(text: str) -> str | None:
    """`#### 42`; a title is no answer."""
    for line in reversed(_HASHES.findall(text)):
        found = _MARKDOWN.sub("", line).strip()
        label = re.match(r"(?:final )?answer ?:? ?(.*)", found, re.I)
        if label and label[1]:
            return str(label[1])
        if _VALUE.match(found) and not _NO_VALUE.match(found):
            return found
    return None


def _value_of(line: str) -> str | None:
    """The answer at the beginning of what follows `is`; None where the sentence asks or denies."""
    formula = re.match(r"\s*(?:\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$?([^$]+)\$\$?(?!\d))", line)
    if formula:
        value = (formula[1] or formula[2] or formula[3]).strip()
        rest = line[formula.end() :]
        return None if rest.lstrip().startswith("?") or not value else value
    line = _MARKDOWN.sub("", line).strip()
    if corrected := re.match(
        r"(?:not|nicht|不是) .{1,60}?(?:,? (?:but|sondern)|而是) ?(.+)", line, re.I
    ):
        line = corrected[1]
    elif re.match(r"(?:not|n't|nicht|不是|unclear|unknown)\b", line, re.I):
        return None
    end = _STOP.search(line)
    if end is not None:
        if end[0] in "?？":
            return None
        line = line[: end.start()]
    if more := _AFTER.search(line):
        line = line[: more.start()]
    line = line.strip(" ,:：`'\"“”「」《》（")
    return line if line and len(line) <= _LONGEST and re.search(r"\w|\\", line) else None


_NUMBERS = re.compile(
    r"(?<![\w.,])[-+\u2212]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?(?![\w/]|[.,]\d)"
)
_FORMULAS = re.compile(r"\\\((.{1,200}?)\\\)|\\\[(.{1,200}?)\\\]|\$\$?([^$\n]{1,200})\$\$?(?!\d)")


def only_value(text: str) -> str | None:
    """The one value in a short text that names no other: a formula, or a number."""
    if len(text) > 2 * _LONGEST:
        return None
    body = text.strip().rstrip(".")
    if not body or body.endswith("?"):
        return None
    formulas = {(m[1] or m[2] or m[3]).strip() for m in _FORMULAS.finditer(body)}
    rest = _FORMULAS.sub(" ", body)
    if formulas:
        return formulas.pop() if len(formulas) == 1 and not re.search(r"\d", rest) else None
    numbers = set(_NUMBERS.findall(body))
    digits = len(re.findall(r"\d+", _NUMBERS.sub(" ", body)))
    return numbers.pop() if len(numbers) == 1 and not digits else None


def boxed_last(thought: str) -> str | None:
    """The box that concludes a thought: nothing is said behind it; None where something is."""
    found = boxes(thought)
    if not found:
        return None
    rest = thought[found[-1].after :]
    return None if re.search(r"\w|\?", rest) else extract_boxed(thought)
