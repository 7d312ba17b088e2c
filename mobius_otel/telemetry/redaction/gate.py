"""What RE2, where it is installed, says before the screen asks anything: which of its questions need no answer.

RE2 finds many patterns in one pass. Each of these is found wherever the question of the screen that it stands for has
an answer: it is that question in the words of RE2, without what only narrows it. So the screen says the same with it
and without it, and the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, reduce
from operator import or_

from mobius_otel.compat import linear_set
from mobius_otel.telemetry.redaction.idioms import WIDE_IDIOMS
from mobius_otel.telemetry.redaction.sentences import WIDE_PATTERNS
from mobius_otel.telemetry.redaction.sorts import (
    ADDRESS,
    ANYTHING,
    AT,
    CARD,
    FLAG,
    HEAD,
    IBAN,
    JWT,
    PEM,
    PHONE,
    SENTENCE,
    SIBLING,
)
from mobius_otel.telemetry.redaction.tokens import wide_patterns

__all__ = ["gate"]

# What is no character of latin-1 stands as a question mark in the text: it may be a blank, and is no letter here.
_BLANK = r"[\s\x0b\x1c-\x1f\x85\xa0?]"
_CELL = r"[\w.\-?\x80-\xff]"
_BETWEEN = r"[ .\-()/+\xa0]"  # digits of one number
_QUESTIONS = (
    (AT, b"", r"@|%40"),
    (PEM, b"", r"-----BEGIN"),
    (SIBLING, b"", r",[ \t\n]{0,32}[bBuU]?\\?[\"']"),
    (SIBLING, b"", r"</| -> |\||\)=\(|form-data|Secret|\t|  |input_value=|nvalid |On instance\[|=>|\";s:"),
    (SIBLING, b"", r"<input |variable "),
    (FLAG, b"", rf"(?:{_BLANK}|[\"'])-[A-Za-z\-]"),
    (FLAG, b"set", r"(?i:set[ \t][^\n]{1,160}[ \t]to[ \t])"),
    (
        FLAG,
        b"set",
        r"config(?:ure)? set |ENV |setx |[sS]et[eE]nv |_param |_header |requirepass|masterauth|\"(?:AUTH|auth)\"",
    ),
    (
        FLAG,
        b"storepassword",
        r"storePassword|keyPassword",
    ),
    (HEAD, b"", rf"\n[ \t]*\|?[ ]*\"?{_CELL}+\"?[ ]*[|,;\t][\w.\-?\x80-\xff\" |,;\t\r]*\n"),
    (HEAD, b"", rf"\n\[{_CELL}+\][ \t\r]*\n|:[ \t\r]*\n[ \t]"),
    *((FLAG, word, pattern) for word, pattern in WIDE_IDIOMS),
    *((SENTENCE, word, pattern) for word, pattern in WIDE_PATTERNS),
    (JWT, b"", r"eyJ"),
    (ADDRESS, b"", r"::|:(?:[0-9A-Fa-f]{1,4}:){6}|\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    (IBAN, b"", r"[^0-9A-Za-z][A-Za-z]{2}[0-9]{2}[^0-9A-Za-z]?[0-9A-Za-z]{4}"),
    (CARD, b"", r"[0-9]{14}|[0-9]{4}J[0-9]{4}J[0-9]{4}J|[0-9]{4}J[0-9]{6}J[0-9]{4}".replace("J", _BETWEEN)),
    (CARD, b"", r"[0-9]{3}J[0-9]{2}J[0-9]{4}|[0-9]{3}JJ?[0-9]{3}J[0-9]{4}".replace("J", _BETWEEN)),
    (PHONE, b"", r"\+[1-9][0-9 \-.()\xa0]{7}"),
    (PHONE, b"", r"[^0-9A-Za-z_+&#$\-/:.]0[1-9](?:[ .\-][0-9]{2}[ .\-]|[0-9]{1,4}\)?[ /\-]{1,3}[0-9]{3})"),
)
#: Found in all texts, each of which begins with one: where it is not, RE2 had no memory, and everything is asked.
_ALWAYS = r"\n"
_MOST_ANSWERS = 4096


@lru_cache(maxsize=8)
def gate(off: frozenset[str]) -> Callable[[bytes], tuple[int, frozenset[bytes] | None]] | None:
    """Return what says which questions are to be asked of texts; None where RE2 is not installed.

    It returns the sorts, as bits, and the words that are to be searched for; None in their place: all that there are.

    Args:
        off: Kinds that are not looked for.
    """
    questions = (*_QUESTIONS, *wide_patterns(off))
    match = linear_set((*(pattern for _, _, pattern in questions), _ALWAYS))
    if match is None:
        return None
    last = len(questions)
    answers: dict[tuple[int, ...], tuple[int, frozenset[bytes]]] = {}

    def asked(raw: bytes) -> tuple[int, frozenset[bytes] | None]:
        found = tuple(match(raw) or ())
        answer = answers.get(found)
        if answer is None:
            if last not in found:
                return ANYTHING, None
            some = [questions[number] for number in found if number != last]
            answer = reduce(or_, [sort for sort, _, _ in some], 0), frozenset(word for _, word, _ in some if word)
            if len(answers) >= _MOST_ANSWERS:
                answers.clear()
            answers[found] = answer
        return answer

    return asked
