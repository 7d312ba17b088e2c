"""Secrets in a text that the name before them tells: pairs, headers, elements, flags of a command line.

``password=…``, ``"apiKey": "…"``, ``Authorization: Bearer …``, ``Cookie: …``, ``--token …``,
``<password>…</password>``. Only the secret itself is taken out; the rest of the text stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from mobius_otel.telemetry.redaction.apart import may_be_apart, spans_apart
from mobius_otel.telemetry.redaction.commands import command_spans, may_be_command
from mobius_otel.telemetry.redaction.hits import WORDS, Hits, each, replace_spans
from mobius_otel.telemetry.redaction.logins import in_marker, url_credentials
from mobius_otel.telemetry.redaction.names import DEPENDING, SCAN, TRUST, NameRules, keeps, words
from mobius_otel.telemetry.redaction.pair_values import Pair, quoted_end, value_span
from mobius_otel.telemetry.redaction.sentences import TELLING_WORDS, loose_credentials, may_tell, said
from mobius_otel.telemetry.redaction.siblings import VALUE_NAMES, NamesBefore, may_be_sibling, sibling_spans
from mobius_otel.telemetry.redaction.statements import statement_spans
from mobius_otel.telemetry.redaction.under import may_be_under, under_spans

__all__ = ["HALF_NAMES", "PAIR_KINDS", "PairScanner"]

_Span = tuple[int, int, str]
PAIR_KINDS = frozenset({"url_credential", "authorization", "cookie"})

# --- pairs --------------------------------------------------------------------------------------------------

# A colour of a terminal may stand between a name, its separator and its value.
# Over the text turned around: a separator is found quickly, and the name that stands before it is read from there.
# Read forwards it is => := = : or >, and no == :: :// >= or >>, and no = that ends its line: what stands before that is
# mostly no name but base64, and not to be learned. Its quote may be doubled, or be \x22, \u0022, &quot;.
_PAIR = (
    r"(>=|=:|=(?<!==)(?<!\n=)(?<!\A=)|:(?<!::)(?<!//:)|>(?<![=> \t]>))[ \t]{0,64}+(?:m[0-9;]{0,12}+\[\x1b)?+"
    r"((?:\](?=[\"']))?+(?:\"\"|[27]2(?:x|00u)\\|;touq&|[\"'`]?\\{0,128}+))"
    r"([\w.\-%\[\]$]{1,256}+)"
)
_TURNED_PAIR = re.compile(_PAIR, re.ASCII)
# The same, but for the parts of it, and for more separators: what stands before them tells something or nothing all
# the same. What begins with a digit is no name, unless a bracket stands in it.
_RUN = (
    r"[:=>](?<!\n=)(?<!\n==)(?<!\A=)(?<!\A==)[:=]?+[ \t]{0,64}+(?:m[0-9;]{0,12}+\[\x1b)?+(?:\](?=[\"']))?+"
    r"(?:\"\"|[27]2(?:x|00u)\\|;touq&|[\"'`]?+\\{0,128}+)"
    r"([\w.\-%\]$]{1,256}+(?:\[[\w.\-%\[\]$]{0,256}+|(?<![0-9.%\]]))|\[[\w.\-%\[\]$]{0,256}+)"
)
_TURNED_RUN = re.compile(_RUN, re.ASCII)
# Names with letters beyond ASCII, and the colon of Chinese and Japanese.
_WIDE_PAIR, _WIDE_RUN = (
    re.compile(_PAIR.replace(":(?<!::)", "[:\uff1a](?<!::)")),
    re.compile(_RUN.replace("[:=>]", "[:=>\uff1a]", 1)),
)
_LONGEST_RUN = 256
_SEPARATED = re.compile(
    r"(?:\"\"|\\(?:x|u00)2[27]|&quot;|\\{0,128}+(?:[\"']\]?|`)?+)"
    r"(?:\x1b\[[0-9;]{0,12}+m)?+[ \t]{0,64}+[:=>\uff1a]"
)
_BLANKS = re.compile(r"[ \t]{0,64}+(?:\x1b\[[0-9;]{0,12}+m){0,3}+(?:\*{1,2}+[ \t]{1,4}+)?")  # "**Password:** …"
_BLANK_BEGINS, _QUOTES = frozenset(" \t\x1b*"), frozenset("\"'")
_NAME = re.compile(r"(?:-D(?=[A-Za-z_])|-{0,2}+)([^\W\d].*|\$.*)")  # "-Ddb.password=…"
# What a line begins with that goes on with one word at most, and what stands before a colon.
_BEGINS = re.compile(r"^\W*+([\w.\-]++)\W*+\S*+\s*+$|([\w.\-]++)[\"']?[ \t]{0,64}+:", re.ASCII)
_NAMES = re.compile(r"[A-Za-z_][\w.\-]*+", re.ASCII)
_COLOUR = re.compile(r"\[[0-9]{1,3}m(?=[A-Za-z_])")  # "\x1b[36mpassword": the end of an escape sequence
_LEARNED = 8192
#: What a name says depends on what stands around it.
_DEPENDS = "?"


#: Parameters of an address that tell where a long value stands.
_URL_NAMES = frozenset({"key", "ticket", "oobcode", "hmac", "assertion", "device_code", "user_code", "code"})
HALF_NAMES = frozenset({"key", "keys", "code", "codes", "number", "id", "phrase", "no", "value", "num", "hash"})
#: What they tell depends on what stands before them in a text.
_HALF = HALF_NAMES | VALUE_NAMES | _URL_NAMES
# The rest of a quoted name of a setting: "Jwt:Key": …
_REST_OF_SETTING = re.compile(
    r"((?:[A-Z][A-Za-z]{0,40}:){0,5}+[A-Z][A-Za-z]{0,40}+)([\"'])[ \t]{0,64}+([:=])[ \t]{0,64}+", re.ASCII
)
_SECTION = re.compile(r"[\"'](?:[A-Z][A-Za-z]{0,40}:){1,4}\Z", re.ASCII)
# A change as Terraform and others print it: password = "old" -> "new".
_ARROW = re.compile(r"[\"'][ \t]{0,8}+(?:->|=>|→)[ \t]{0,8}+([\"'])")
# An address in which "code" is what logs somebody in.
_LOGIN_URL = re.compile(
    r"state=|grant_type=authorization_code|redirect_uri=|(?:reset|verif|confirm|activat|invit|magic|callback|oauth|login|signin|sso)[\w\-./]{0,64}+\?",
    re.IGNORECASE,
)
_LONG_VALUE = re.compile(r"=(?=[A-Za-z_\-]{0,200}+[0-9])[\w\-]{20,}+", re.ASCII)
_LONGEST_ARN = 256


def _first_name(run: str, start: int) -> tuple[str, int]:
    """Return the name that ends a run of a name's characters, and where it begins; empty where it is none.

    Args:
        run: The whole run: ``--api-key``, ``user[pin]``, ``1abc``.
        start: Where it begins in its text.
    """
    if run[0].isalpha():  # mostly
        return run, start
    colour = _COLOUR.match(run)
    at = colour.end() if colour else 0
    while at >= 0:
        if found := _NAME.match(run, at):
            return found.group(1), start + found.start(1)
        at = run.find("[", at) + 1 or -1  # "[user=ann]": a name may stand behind a bracket
    return "", start


class PairScanner:
    """Finds what names in a text tell.

    Args:
        rules: What the names say.
        off: Kinds that are not looked for.
    """

    __slots__ = ("_harmless", "_learned", "_of", "_off")

    def __init__(self, rules: NameRules, off: frozenset[str] = frozenset()) -> None:
        self._of: Callable[[str], str] = rules.of
        self._learned: dict[str, str] = {}
        self._harmless: set[str] = set()
        self._off = off

    def logins(self, text: str, hits: Hits) -> str:
        """Return `text` without the passwords in its URLs and DSNs."""
        return text if "url_credential" in self._off else url_credentials(text, hits)

    def pairs(self, text: str, hits: Hits) -> str:
        """Return `text` without the values that a name before a separator tells."""
        if ":" in text or "=" in text or ">" in text:
            return replace_spans(text, self._pair_spans(text), hits)
        return text

    def siblings(self, text: str, hits: Hits) -> str:
        """Return `text` without the values that a name of its own beside them tells."""
        return replace_spans(text, sibling_spans(text, self._of), hits)

    def flags(self, text: str, hits: Hits) -> str:
        """Return `text` without the secrets of its command lines."""
        return replace_spans(text, command_spans(text, self._of, logins="url_credential" not in self._off), hits)

    def sentences(self, text: str, hits: Hits) -> str:
        """Return `text` without what its sentences tell: "Bearer …", "insert into … values", "the PIN is …"."""
        low = text.lower()
        if "authorization" not in self._off and ("bearer" in low or "basic" in low):
            text = replace_spans(text, loose_credentials(text), hits)
        words = TELLING_WORDS.intersection(low.encode("latin-1", "replace").translate(WORDS).split())
        text = replace_spans(text, statement_spans(text, low, words, self._of), hits)
        text = replace_spans(text, spans_apart(text, words, self._of), hits)
        # What the screen asks is asked again: a pair may have been all that there was.
        if may_tell("\n" + text, words, self._of):
            text = replace_spans(text, said(text, self._of), hits)
        return text

    def under(self, text: str, hits: Hits) -> str:
        """Return `text` without what a head above it tells: columns, sections, keys of YAML."""
        return replace_spans(text, under_spans(text, self._of), hits) if "\n" in text else text

    def suspect(self, text: str) -> list[int]:
        """Return the places of pairs whose name may tell something.

        Args:
            text: Texts in lines of their own.
        """
        places: list[int] = []
        runs = (_TURNED_RUN if text.isascii() else _WIDE_RUN).findall(text[::-1])
        if self._harmless.issuperset(runs):
            return places
        for run in set(runs):
            if run in self._harmless or self._is_harmless(run):
                continue
            name = run[::-1]
            if _first_name(name, 0)[0].lower() in _HALF:  # what it says depends on the word before it
                places += self._suspect_half(text, name)
            else:
                places += [at for at in each(text, name) if _SEPARATED.match(text, at + len(name))]
        return places

    def tells(self, line: str) -> bool:
        """Return whether something in a line may be a name that tells what stands anywhere else, or half of one."""
        halves = {word for first, before in _BEGINS.findall(line) for word in words(first or before)}
        return not DEPENDING.isdisjoint(halves) or any(
            self._of(name) not in (SCAN, TRUST)
            for run in _NAMES.findall(line)
            for name in (run, run.rpartition(".")[2])
        )

    def _suspect_half(self, text: str, run: str) -> list[int]:
        name, shift = _first_name(run, 0)
        places, names = [], NamesBefore(text, self._of)
        for at in each(text, run):
            start = at + shift
            pair = (name.lower() in VALUE_NAMES or text[start - 1] in _BEFORE_HALF) and _SEPARATED.match(
                text, at + len(run)
            )
            if pair and self._kind(text, name, start, True, names):
                places.append(start)
        return places

    def _is_harmless(self, turned: str) -> bool:
        """Return whether a run of a name's characters, turned around, never tells anything; remember it then."""
        if len(turned) >= _LONGEST_RUN or (self._learned.get(turned) or self._learn(turned)) is _DEPENDS:
            return False
        if len(self._harmless) >= _LEARNED:
            self._harmless.clear()
        self._harmless.add(turned)
        return True

    def suspect_siblings(self, text: str) -> list[int]:
        """Return the places of values that a name beside them may tell; see :func:`may_be_sibling`."""
        return may_be_sibling(text, self._of)

    def suspect_sentences(self, text: str, words: AbstractSet[bytes]) -> list[int]:
        """Return the places of sentences and statements that may tell something; see :func:`may_tell`."""
        return may_tell(text, words, self._of) + may_be_apart(text, words, self._of)

    def suspect_heads(self, text: str) -> bool:
        """Return whether a head in a text of several lines may tell something; see :func:`may_be_under`."""
        return may_be_under(text, self._of)

    def suspect_flags(self, text: str, words: AbstractSet[bytes]) -> list[int]:
        """Return the places of command lines that may tell something; see :func:`may_be_command`."""
        return may_be_command(text, self._of, words)

    def _kind(self, text: str, name: str, start: int, login: bool, names: NamesBefore) -> str:
        """Return the kind that the name of a pair tells."""
        if start and text[start - 1] == "\\" and name[0] in "nrt":
            name = name[1:]  # a line break written as two characters
        kind = self._of(name) if name else SCAN
        if kind == SCAN:
            if name.lower() in HALF_NAMES:  # "API key: …", "card number: …"
                before = text[max(0, start - 24) : start]
                before = before.rpartition("\n")[2]  # not a word of the line above
                section = before.endswith(":") and _SECTION.search(before)
                word = before[:-1].rpartition(" ")[2].strip("\"'(,.;:") if section or before.endswith(" ") else ""
                kind = self._of(f"{word} {name}") if word else SCAN
            if kind == SCAN and name.lower() in VALUE_NAMES:
                kind = names.told(start)
            before = text[start - 1 : start]
            if kind == SCAN and name == "code" and login and before in _BEFORE_PARAMETER:
                kind = SCAN if "token" in self._off else "token"
            elif (
                kind == SCAN
                and before in {"?", "&"}
                and name.lower() in _URL_NAMES
                and (_LONG_VALUE.match(text, start + len(name)))
            ):
                told = "api_key" if name == "key" else "token"
                kind = SCAN if told in self._off else told
        elif name.lower() == "pass" and text[start - 1 : start] == " ":
            word = text[max(0, start - 24) : start - 1].rpartition("\n")[2].rpartition(" ")[2]
            kind = self._of(f"{word} pass") if word.isalpha() else kind  # "boarding pass: …"
        return kind if kind != TRUST else SCAN

    def _learn(self, turned: str) -> str:
        """Return SCAN where the name in a run of a name's characters, turned around, never tells anything."""
        name, _ = _first_name(turned[::-1], 0)
        harmless = not name or (name.lower() not in _HALF and self._of(name) in (SCAN, TRUST))
        if harmless and name[:1] in {"n", "r", "t"} and self._of(name[1:] or "n") not in (SCAN, TRUST):
            harmless = False  # "\npassword": the first letter may belong to a line break
        if len(self._learned) >= _LEARNED:
            self._learned.clear()
        self._learned[turned] = told = SCAN if harmless else _DEPENDS
        return told

    def _pair_spans(self, text: str) -> list[_Span]:
        learned, spans = self._learned, []
        telling = [
            found
            for found in (_TURNED_PAIR if text.isascii() else _WIDE_PAIR).finditer(text[::-1])
            if (known := learned.get(found[3])) is _DEPENDS or (known is None and self._learn(found[3]) is _DEPENDS)
        ]
        if not telling:
            return []
        done, length, marked, names = 0, len(text), "[redacted:" in text, NamesBefore(text, self._of)
        login = "code=" in text and _LOGIN_URL.search(text) is not None
        for found in reversed(telling):
            begin = length - found.start()
            if length - found.end(1) < done:
                continue  # a part of the value before it
            separator, quote, run = found.groups()
            run_start = length - found.end()
            name, name_start = _first_name(run[::-1], run_start)
            if name_start < done:
                continue
            kind = self._kind(text, name, name_start, login, names)
            if (
                separator == ":"
                and text[name_start - 1 : name_start] in _QUOTES
                and (rest := _REST_OF_SETTING.match(text, begin))
            ):  # all of it tells what follows
                name, begin, separator, quote = f"{name}:{rest[1]}", rest.end(), rest[3], rest[2]
                kind = self._of(name)
            if (
                not kind
                or (marked and in_marker(text, name_start))
                or (text[name_start - 1 : name_start] == ":" and _in_arn(text, name_start))
            ):
                continue
            if text[begin : begin + 1] in _BLANK_BEGINS and (blanks := _BLANKS.match(text, begin)):
                begin = blanks.end()
            pair = Pair(run_start, name_start, name, quote[::-1], separator[::-1], begin)
            start, end = value_span(text, pair, kind, self._of)
            if start < end:
                done = end
                spans.append((start, end, kind))
                while text[done : done + 1] in _QUOTES and (arrow := _ARROW.match(text, done)):
                    start, done = arrow.end(), quoted_end(text, arrow.end(), arrow.group(1))
                    if not keeps(kind, text[start:done]):
                        spans.append((start, done, kind))
        return spans


#: What stands before a name whose word before it counts: "card number", "?code", "\\nkey".
_BEFORE_HALF = frozenset(" ?&\\\n\"':")
#: What stands before a parameter, in an address and at the begin of a form.
_BEFORE_PARAMETER = frozenset({"?", "&", "", "\n", '"', "'"})


def _in_arn(text: str, at: int) -> bool:
    """Return whether what begins behind a colon is a part of an ARN: ``arn:aws:secretsmanager:…:secret:prod/db``."""
    before = text[max(0, at - _LONGEST_ARN) : at]
    begin = before.rfind("arn:aws")
    return begin >= 0 and before[begin:].isprintable() and " " not in before[begin:]
