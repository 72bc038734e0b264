"""Text of a trace on its way into a prompt: it must stay material, and never look like the prompt.

Three forms, by what the prompt needs: a JSON string on one line; lines that are all quoted with
`> `; a name on one line. In none of them can a text end its line or block, carry a control
character, or spell a mark of a chat template (`<|im_end|>`, `</s>`, `[INST]`), which a tokenizer
would take for the end of the turn. A model may still be persuaded by what it reads. Pure.
"""

from __future__ import annotations

import json
import re

_JSON_MARKS = re.compile("[<\x7f-\x9f\u2028\u2029]|\\[(?=/?[A-Z_]+\\])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MARK = re.compile(r"<(?=[^\s\d=<-])|\[(?=/?[A-Z_]{2,}\])")
_NAME_CHARS = 100


def json_line(text: str) -> str:
    """As a JSON string on one line; marks of templates are spelled out as escapes."""
    plain = text.encode("utf-8", "replace").decode("utf-8")  # no request can carry lone surrogates
    escaped = json.dumps(plain, ensure_ascii=False)
    return _JSON_MARKS.sub(lambda m: f"\\u{ord(m[0]):04x}", escaped)


def unmarked(text: str) -> str:
    """Lines as they are, without control characters; marks of templates are broken by a space."""
    return _MARK.sub(lambda m: f"{m[0]} ", _CONTROL.sub("\ufffd", text))


def quoted(text: str) -> str:
    """Every line begins with `> `."""
    return "\n".join(f"> {line}" for line in unmarked(text).split("\n"))


def name_line(name: str) -> str:
    """A name as a JSON string of at most 100 characters, white space evened out."""
    return json_line(" ".join(_CONTROL.sub("\ufffd", name).split())[:_NAME_CHARS])
