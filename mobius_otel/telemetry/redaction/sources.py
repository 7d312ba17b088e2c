"""Source code in the place of a secret: a line of a traceback names what holds the secret, and is none."""

from __future__ import annotations

import re
from collections.abc import Callable

from mobius_otel.telemetry.redaction.names import SCAN, TRUST, word_set

__all__ = ["CALL", "TYPED", "asks", "in_frame", "is_code", "is_field", "names_alone"]

_CODE = re.compile(
    r"(?:await|new|yield)\b|(?:self|os|cls|settings|config|conf|request|req|args|kwargs|options|opts|process|env|environ|data|form|payload)"
    r"[.\[(]|(?:str|repr|len|int|bytes|dict|list|tuple|set|max|min|sum|map|sorted|reversed|zip|super|cast|getattr|getenv|SecretStr|get_secret|getpass|quote|hash)\("
    r"|!(?:Ref|Sub|GetAtt|ImportValue|vault|secret|env_var|include)\b"
    r"|(?:var|vars|local|module|each|secrets|props|steps|needs|inputs|params|outputs)\.[A-Za-z_][\w.\[\]\-]*\Z"
    r"|[a-z_]+\.?[a-z_]*\([a-z_., ]*\)?(?:[;,]|\Z)|(?:Optional|Union|List|Dict|Annotated|Literal)\["
    r"|[a-z_]+(?:\.[a-z_]+){2,8}\Z|YOUR_[A-Z_]+\Z"
    r"|(?:typing\.)?(?:Required|NotRequired|Final|ClassVar|Callable|Sequence|Iterable|Mapping|Type)\[[A-Za-z_]"
    r"|(?:list|dict|tuple|set|frozenset|type)\[(?:str|int|bytes|bool|float|Any|[A-Z][a-z]+[A-Za-z]+)(?:[,|\[]|\Z)"
    r"|(?:str|int|bytes|bool|float)=[A-Za-z_]{1,40}\.[A-Za-z_]{1,40}\("  # "password:int=typer.Option(...)"
    r"|~\w+(?:\.\w+){2,8}\Z"  # as documentation refers to a class
)
# What is taken out of something by its name or its place: cfg["token"], cache[0].
_BY_NAME = re.compile(r"[A-Za-z_][\w.]{0,60}+\[(\\{0,8}+[\"'])[A-Za-z_][\w.\-]{0,63}+\1\]", re.ASCII)
_SLICE = r"(?:-?[0-9]{1,2}|[a-z]|[A-Z_]{2,40})"
_BY_PLACE = re.compile(rf"[a-z_]{{1,40}}+(?:\.[a-z_]{{1,40}}+){{0,4}}\[(?:{_SLICE}?:{_SLICE}?|-?[0-9]{{1,2}})\]")
_END_OF_SLICE = re.compile(r"(?:-?[0-9]{1,2})?\](?!\w)")
# A name for what is made by chance, and the type of such a thing.
_VARIABLE_NAME = re.compile(
    r"_{0,2}(?:(?:access|refresh|auth|session|identity|id|csrf|bearer|current|new|old|raw|encoded|decoded|resolved"
    r"|valid|next|input|output|request|response)_){1,3}[a-z]{2,20}"
)
_TYPE = re.compile(
    r"_?(?:[A-Z][a-z]{2,20}){1,5}(?:Tokens?|Credentials?|Provider|Session|Signature|Types?|Auth|Authorization|Info|Sig|Keys?)"
)
_OPENED = re.compile(r"[A-Za-z_]{1,40}(?:[0-9]?\.[A-Za-z_]{1,40}){0,4}\(")
# What is made without a word to it: DefaultAzureCredential(), uuid.uuid1().hex.encode()
_OBJECT = re.compile(
    r"(?:[A-Z][a-z]+){2,6}\(\)|[A-Za-z_]\w{0,40}+(?:\.[A-Za-z_]\w{0,40}+(?:\(\))?+){1,6}(?<=\(\))", re.ASCII
)
# An attribute that tells the same as the name that it is given to: auth.token = creds.token
_ATTRIBUTE = re.compile(
    r"([A-Za-z_]\w{0,40}+)(?:[?!]?\.[A-Za-z_]\w{0,40}+){0,4}[?!]?\._{0,2}([A-Za-z_]{1,60})!?", re.ASCII
)
_OWNERS = word_set(
    "this creds credentials cfg user auth login account ctx context conn connection client params body props state"
    " result res resp response row item obj event input model options parsed_args parsed parser"
)
_SESSION_TYPE = re.compile(r"(?:[a-z_]{1,40}\.){0,4}_?(?:[A-Z][a-z]+){0,6}Session")
_GRAPHQL_TYPE = re.compile(r"\[?(?:String|ID|Int|Float|Boolean|[A-Z][A-Za-z]{1,40}(?=[!\]]))!?\]?!?")
_VARIABLE = re.compile(r"\$[A-Za-z_]{1,40}", re.ASCII)
#: "token:str='…'": the literal is the value.
TYPED = re.compile(
    r"(?:(?:str|bytes|SecretStr)(?: ?\| ?None)?|int|[sS]tring[?!]?(?: ?\| ?(?:null|undefined))?|&(?:'\w{1,20} )?str"
    r"|Optional\[(?:str|bytes|SecretStr)\]|Option<(?:String|&str)>)[ \t]?=[ \t]?(?=[bBuUrRfF]{0,2}[\"'])"
)
#: Kinds that are made by chance: a word with a number behind it is none.
_BY_CHANCE = frozenset({"token", "session", "signature", "api_key", "credential", "cookie"})

#: What a literal is wrapped in: Some("…"), SecretStr('…'), MD5('…').
CALL = re.compile(
    r"(?:(?:new|await) )?([A-Za-z_][\w.:]{0,60}+)!?\([ \t\n]{0,32}+[bBuUrRfFnN]{0,2}+(\\{0,128}+[\"'`])", re.ASCII
)
# A literal in one of these is the name of something.
_ASKS = re.compile(
    r"(?:^|[._:])(?:get|pop|fetch|load|read|find|lookup|require|resolve|param|has|is)\w*\Z"
    r"|(?:^|[._:])(?:env|environ|getenv|config|settings|vars?|t|tr|_|gettext|translate|input|prompt|getpass|ask|open"
    r"|field|column|mapped_column|charfield|header|cookie|form|query|body|label|secret_from|format)\Z"
    r"|(?:^|[._:])env\.(?:str|bytes|bool|int|list|dict|json|url)\Z",
    re.IGNORECASE,
)
_CODEC = re.compile(r"(?:utf-?(?:8|16)|latin-?1|ascii|iso-8859-1)\\{0,8}[\"']", re.IGNORECASE)
_SEPARATORS = re.compile(r"[:,;.|/ \-]{1,2}")
_ITEMS = re.compile(r"[A-Za-z_]{1,40}(?:, ?[A-Za-z_]{1,40}){0,5}")
_BESIDE = word_set("user username user_name login name host")


# A frame of a traceback: what stands in the line below it is source code.
_FRAME = re.compile(r"[ \t|]{0,32}File \"[^\"\n]{1,400}+\", line [0-9]{1,9}+(?:, in [^\n]{0,200}+)?+")
_LONGEST_LINE = 512
# A place in a text that is made: f"password={password!r}".
_FIELD = re.compile(
    r"\{(?:[A-Za-z_]\w{0,40}+\.){0,4}+_{0,2}+([A-Za-z]\w{0,60}+)(?:\(\))?+(?:![rsa])?+(?::[<>^]?[0-9]{0,3}+[sr]?+)?+\}",
    re.ASCII,
)
_MADE = re.compile(r"(?<!\w)[rR]?[fF][rR]?[\"']")
# What has passed, as runners of tests say: "PASS: test-strtol", "PASS: gcc.dg/a-1.c".
_TEST = re.compile(
    r"(?:[\w.+\-]{1,60}/){1,12}[\w+\-]{1,100}\.[a-z]{1,5}|(?:[a-z]{1,30}-)?tests?[\-_][a-z_\-]{2,60}(?:\.[a-z]{1,5})?"
    r"|[a-z_\-]{1,60}[_\-.]tests?(?:\.[a-z]{1,5})?|[\w\-]{1,60}\.(?:sh|test|py|pl|tcl|exe)|Test[A-Z]\w{1,100}",
    re.ASCII,
)


def asks(call: re.Match[str]) -> bool:
    """Return whether the literal in a call is the name of something, or what stands between things: no secret.

    Args:
        call: What :data:`CALL` found.
    """
    if _ASKS.search(call.group(1)) or _CODEC.match(call.string, call.end()):
        return True
    between = _SEPARATORS.match(call.string, call.end()) if "." in call.group(1) else None
    return between is not None and call.string.startswith(call.group(2), between.end())  # parts.join(':')


def is_code(text: str, span: tuple[int, int], name: str, kind: str, of: Callable[[str], str]) -> bool:
    """Return whether what stands between two places is source code that names a secret or its type.

    Args:
        text: The text.
        span: Where it begins, and where it ends as a value.
        name: The name before it, in lower case.
        kind: What the name tells.
        of: What any name tells.
    """
    at, end = span
    value = text[at:end]
    if value.strip("_") == name.rpartition(".")[2].strip("_"):
        return True
    if name in {"pass", "token"} and _is_verdict(text, at, value):
        return True
    if (value[0].isalpha() or value[0] == "_") and in_frame(text, at):
        return True
    if value.isalnum() and not value.isalpha():
        return False  # letters and digits alone
    if _CODE.match(value):
        return True
    if name[0] == "$" and (
        _VARIABLE.fullmatch(value) or (_GRAPHQL_TYPE.fullmatch(value) and ("query" in text or "mutation" in text))
    ):
        return True
    behind = text[end : end + 1]
    if behind and behind in "\"'\\" and value[-1:] == "[":
        return _BY_NAME.match(text, at) is not None
    if "[" in name and "]" not in name and _END_OF_SLICE.match(text, at):
        return True  # "line_tokens[:-1]"
    if behind == "]":
        return (kind in _BY_CHANCE or text.endswith("= ", 0, at)) and _BY_PLACE.fullmatch(text, at, end + 1) is not None
    if value[-1] == "(":
        if behind == ")":
            return _OBJECT.fullmatch(text, at, end + 1) is not None
        below = not behind or behind in "\r\n"  # what it is given comes in the next lines
        return below and (kind in _BY_CHANCE or "." in value) and _OPENED.fullmatch(value) is not None
    if kind in _BY_CHANCE and value.isidentifier():
        return _TYPE.fullmatch(value) is not None or (of(value) == kind and _VARIABLE_NAME.fullmatch(value) is not None)
    if "." in value and (attribute := _ATTRIBUTE.fullmatch(value)):
        owner, last = attribute.groups()
        if of(last) == kind and (kind in _BY_CHANCE or owner.lower() in _OWNERS):
            return True
    return kind == "session" and _SESSION_TYPE.fullmatch(value) is not None


def in_frame(text: str, at: int) -> bool:
    """Return whether a place is one of source code, and in no literal: in the line below a frame of a traceback."""
    start = text.rfind("\n", max(0, at - _LONGEST_LINE), at)
    if start < 0 or text.count('"', start, at) % 2 or text.count("'", start, at) % 2:
        return False
    above = text.rfind("\n", max(0, start - _LONGEST_LINE), start) + 1
    return _FRAME.fullmatch(text, above, start) is not None


def is_field(text: str, at: int, kind: str, of: Callable[[str], str]) -> bool:
    """Return whether a brace opens a place that is filled in elsewhere: ``f"password={password}"``.

    Args:
        text: The text.
        at: Where the brace stands.
        kind: What the name before it tells.
        of: What any name tells.
    """
    field = _FIELD.match(text, at)
    if field is None:
        return False
    start = text.rfind("\n", max(0, at - _LONGEST_LINE), at) + 1
    return of(field.group(1)) == kind or _MADE.search(text, start, at) is not None


def _is_verdict(text: str, at: int, value: str) -> bool:
    """Return whether a test has passed, or a parser says what it met: "PASS: test-strtol", "Unexpected token: …"."""
    before = text[max(0, at - 24) : at]
    if before.endswith("PASS: "):
        return before.endswith("--- PASS: ") or _TEST.fullmatch(value) is not None
    return before.lower().endswith(("unexpected token: ", "illegal token: ")) and not any(map(str.isdigit, value))


def names_alone(inside: str, of: Callable[[str], str]) -> bool:
    """Return whether what stands in brackets are names that tell by themselves: ``creds=(user, password)``.

    Args:
        inside: What stands in the brackets.
        of: What any name tells.
    """
    if not _ITEMS.fullmatch(inside):
        return False
    items = [item.strip() for item in inside.split(",")]
    told = [of(item) not in (SCAN, TRUST) for item in items]
    if not told[-1] or not all(tells or item in _BESIDE for tells, item in zip(told, items, strict=True)):
        return False
    return len(items) > 1  # "passwords: [password]" may be one
