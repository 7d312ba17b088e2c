r"""Secrets in what says that a value was rejected, or was met: the name of the field stands elsewhere in the sentence.

Spring's ``on field 'password': rejected value […]``, Joi's ``"password" with value "…" fails``, Mongoose's ``Path
`password` (`…`) is shorter``, MySQL's ``'…' for column 'pin'``, ``invalid argument "…" for "--password" flag`` of Go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps

__all__ = ["REJECTING_WORDS", "refused_spans", "rejected_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
# A quote, also as one in a text in quotes; the name of a field, whose last part tells; a value in quotes of its own.
_Q = r"\\{0,4}[\"']"
_FIELD = r"(?P<name>[\w.\[\]$\-]{1,128}+)"
_QUOTED = r"\\{0,4}(?P<quote>[\"'])(?P<value>(?:(?!(?P=quote))[^\n\\]){1,1024}+)\\{0,4}(?P=quote)"
#: By the word, in lower case, that stands in a text of such a form: what tells that it is more than the word, and the
#: pattern.
_FORMS: dict[bytes, tuple[str, re.Pattern[str]]] = {
    word: (mark, re.compile(pattern, re.ASCII))
    for word, mark, pattern in (
        (  # Spring
            b"rejected",
            "rejected value [",
            rf"on field '{_FIELD}': rejected value \[(?P<value>(?:[^\]\n]++|\](?!;|\Z)){{1,1024}}+)",
        ),
        (b"fails", " with value ", rf"{_Q}{_FIELD}{_Q} with value {_QUOTED} fails"),  # Joi
        (  # Mongoose
            b"allowed",
            "Path `",
            rf"Path `{_FIELD}` \(`?(?P<value>[^`()\n]{{1,1024}}+)`?\) is (?:shorter|longer|less|more) than",
        ),
        (
            b"enum",
            " for path `",
            rf"`(?P<value>[^`\n]{{1,1024}}+)` is not a valid enum value for path `{_FIELD}`",
        ),
        (b"cast", " at path ", rf"failed for value {_QUOTED} (?:\(type \w{{1,40}}+\) )?at path {_Q}{_FIELD}"),
        (  # Jackson
            b"deserialize",
            " reference chain: ",
            (
                rf"from \w{{1,20}}+ (?:value )?\(?{_QUOTED}(?:[^(\n]++|\((?!through )|\n at \[){{0,400}}+"
                rf"\(through reference chain: [^)\n]{{0,500}}\[\\{{0,4}}\"{_FIELD}\\{{0,4}}\"\]\)"
            ),
        ),
        (b"constraint", "failed to satisfy", rf"Value {_QUOTED} at {_Q}{_FIELD}{_Q} failed to satisfy"),  # AWS
        (  # MySQL, MariaDB
            b"incorrect",
            "Incorrect ",
            rf"Incorrect \w{{1,20}}+ value: {_QUOTED} for column [`'\"](?:\w{{1,64}}+`?\.`?){{0,3}}{_FIELD}",
        ),
        (b"duplicate", "Duplicate entry ", rf"Duplicate entry {_QUOTED} for key [`'\"]{_FIELD}"),
        (  # Elasticsearch, OpenSearch
            b"preview",
            "Preview of field's value: ",
            (
                r"failed to parse field \[(?P<name>[\w.\-]{1,128}+)\] of type [^\n]{1,600}?Preview of field's value: '"
                r"(?P<value>[^'\n]{1,1024}+)"
            ),
        ),
        # envconfig of Go
        (b"converting", " to type ", rf"assigning \w{{1,128}}+ to {_FIELD}: converting {_QUOTED} to type"),
        (b"assert", "= ", rf"\bassert (?:not )?{_FIELD} ?[!=]={{1,2}} ?[bru]?{_QUOTED}"),
    )
}
#: What a text holds one of, in lower case and as a whole word, in which one of these forms may be.
REJECTING_WORDS = frozenset(_FORMS)
# cobra, flag and clap of command lines, Kubernetes.
_ARGUMENT = re.compile(
    rf"nvalid (?:argument|(?:\w{{1,20}}+ )?value) {_QUOTED} for (?:flag )?{_Q}?(?:-\w, )?-{{1,2}}{_FIELD}", re.ASCII
)
_FIELD_VALUE = re.compile(rf"{_FIELD}: Invalid value: {_QUOTED}", re.ASCII)
# What Terraform says of a variable.
_VARIABLE = re.compile(rf"\bvar\.{_FIELD} is {_QUOTED}", re.ASCII)
# The name of a key in a table that is not that of its column alone: "token_UNIQUE", "uq_users_token_idx".
_OF_A_KEY = re.compile(r"_(?:unique|uniq|uk|uq|idx|index|key|ix)\Z", re.IGNORECASE)


def rejected_spans(text: str, words: Collection[bytes], of: _Of) -> _Spans:
    """Find the secrets in what one of :data:`REJECTING_WORDS` tells of.

    Args:
        text: The text.
        words: Those of them that stand in it, or more.
        of: What a name tells.
    """
    for word in words:
        mark, pattern = _FORMS.get(word, ("", None))
        if pattern and mark in text:
            yield from _found(text, pattern, of)
    if "var." in text and " is " in text:
        yield from _found(text, _VARIABLE, of)


def refused_spans(text: str, of: _Of) -> _Spans:
    """Find the secrets in what says ``invalid``, of an argument or of a field."""
    yield from _found(text, _ARGUMENT, of)
    if ": Invalid value: " in text:
        yield from _found(text, _FIELD_VALUE, of)


def _found(text: str, pattern: re.Pattern[str], of: _Of) -> _Spans:
    for found in pattern.finditer(text):
        name = found.group("name").rstrip("]")
        name = _OF_A_KEY.sub("", name.replace("[", ".").rpartition(".")[2])
        kind, value = of(name), found.group("value")
        if kind not in (SCAN, TRUST) and not keeps(kind, value):
            yield *found.span("value"), kind
