"""Secrets in what tools print about something that has a name: errors of validation, dumps of objects, columns.

pydantic's ``password⏎  … [type=…, input_value='…']``, argparse's ``argument --token: invalid …: '…'``, PHP's
``[password:protected] => …``, a property list, ``DB_PASSWORD      …`` in columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps
from mobius_otel.telemetry.redaction.rejected import refused_spans

__all__ = ["may_be_printed", "printed_spans"]

_Spans = Iterator[tuple[int, int, str]]
_Of = Callable[[str], str]
_FARTHEST = 4000
# The line of a field and the line of what is wrong with it.
_PYDANTIC = re.compile(
    r"\n([\w.\[\]\-]{1,256}+)\n  [^\n\[]{1,500}+\[type=[\w.]{1,64}+, "
    r"input_value=((?:[^\n,\]]++|,(?! input_type=)|\](?!\n|\Z)){1,4096}+)"
)
_ARGUMENT = re.compile(
    r"(?:argument (-{1,2}[\w\-]{1,64}+)(?:/-{1,2}[\w\-]{1,64}+){0,4}+: invalid [\w ]{1,40}+"
    r"|Invalid value for '(-{1,2}[\w\-]{1,64}+)'(?: / '-{1,2}[\w\-]{1,64}+'){0,4}+): (['\"])((?:(?!\3)[^\n]){1,1024}+)"
)
_INSTANCE = re.compile(r"On instance(?:\[[^\[\]\n]{1,128}\]){0,16}?\['([^'\n]{1,64}+)'\]:\n {1,8}([^\n]{1,1024}+)")
_OBJECT = re.compile(
    r"\[\"?([A-Za-z_]\w{0,64}+)\"?:(?:protected|\"?[\w\\]{1,128}+\"?:private|private)\][ \t]?=>\s{0,16}"
    r"(?:string\([0-9]{1,9}\) \"([^\"]{1,4096}+)\"|([^\s][^\n]{0,1024}+))",
    re.ASCII,
)
_SERIALIZED = re.compile(r"s:[0-9]{1,3}:\"([A-Za-z_][\w.\-]{0,64}+)\";s:[0-9]{1,6}:\"([^\"]{1,4096}+)\"", re.ASCII)
_LIST_OF_PROPERTIES = re.compile(
    r"<(?:key|name)>([^<>]{1,64}+)</(?:key|name)>\s{0,64}<(?:string|value)>([^<>]{1,4096}+)<", re.IGNORECASE
)
# variable "db_password" { default = "…" } of Terraform
_VARIABLE = re.compile(r"variable \"([\w\-]{1,64}+)\" \{[^{}]{0,400}?default\s{0,16}=\s{0,16}\"([^\"\n]{1,1024}+)\"")
_INPUT = re.compile(
    r"<input [^<>]{0,500}?value=\"([^\"<>]{1,4096}+)\"[^<>]{0,500}?name=\"([\w\-\[\].]{1,64}+)\"", re.IGNORECASE
)
# A line of two columns: the name, two blanks or more, a tabulator or a bar, the value; and what a registry has between.
_COLUMNS = re.compile(
    r"\n[ \t|]{0,8}+([A-Za-z_][\w.\-]{1,64}+)(?:[ \t]*+\|[ \t]{1,64}+|[ \t]{2,80}+|\t)"
    r"(?:REG_[A-Z_]{2,20}+[ \t]{1,16}+)?+"
    r"((?![:=])[^\s|]{6,1024}+)[ \t]*+(?=\r?\n|\Z)",
    re.ASCII,
)


def may_be_printed(text: str, of: _Of) -> list[int]:
    """Return the places of what :func:`printed_spans` finds, in texts that stand in lines of their own."""
    return [start for start, _, _ in printed_spans(text, of)]


def printed_spans(text: str, of: _Of) -> list[tuple[int, int, str]]:
    """Return the secrets in what tools print about something with a name.

    Args:
        text: The text.
        of: What a name tells.
    """
    return [
        (start, end, kind)
        for start, end, kind in _spans(text, of)
        if kind not in (SCAN, TRUST) and start < end and not keeps(kind, text[start:end].strip("'\""))
    ]


def _spans(text: str, of: _Of) -> _Spans:
    lines = text if text[:1] == "\n" else "\n" + text
    shift = len(text) - len(lines)
    if "input_value=" in text:
        for found in _PYDANTIC.finditer(lines):
            start, end = found.span(2)
            yield start + shift, end + shift, of(found.group(1).rpartition(".")[2])
    if "nvalid " in text:
        for found in _ARGUMENT.finditer(text):
            yield *found.span(4), of((found.group(1) or found.group(2)).lstrip("-"))
        yield from refused_spans(text, of)
    if "On instance[" in text:
        said = 0
        for found in _INSTANCE.finditer(text):
            value, kind = found.group(2), of(found.group(1))
            at = text.find(value, max(said, found.start() - _FARTHEST), found.start())  # it is said above as well
            if at >= 0 and len(value) > 2:
                yield at, at + len(value), kind
            yield *found.span(2), kind
            said = found.end()
    if "=>" in text and "]" in text:
        for found in _OBJECT.finditer(text):
            yield *found.span(2 if found.group(2) else 3), of(found.group(1))
    if '";s:' in text:
        for found in _SERIALIZED.finditer(text):
            yield *found.span(2), of(found.group(1))
    if "</" in text:
        for found in _LIST_OF_PROPERTIES.finditer(text):
            yield *found.span(2), of(found.group(1))
    if "variable " in text:
        for found in _VARIABLE.finditer(text):
            yield *found.span(2), of(found.group(1))
    if "<input " in text:
        for found in _INPUT.finditer(text):
            yield *found.span(1), of(found.group(2))
    if "  " in text or "\t" in text or "|" in text:
        for found in _COLUMNS.finditer(lines):
            value = found.group(2)
            if not value.isalpha() and value[-1] not in ":=>,)":
                yield found.start(2) + shift, found.end(2) + shift, of(found.group(1))
