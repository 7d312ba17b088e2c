"""What sentences of a text tell: "Bearer …", "the PIN is 1234"; and where a statement may tell something."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise

from mobius_otel.telemetry.redaction.bound import BINDING_WORDS
from mobius_otel.telemetry.redaction.braces import is_empty_field
from mobius_otel.telemetry.redaction.counted import is_length_of_time
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, keeps, says_count, word_set
from mobius_otel.telemetry.redaction.rejected import REJECTING_WORDS
from mobius_otel.telemetry.redaction.sources import is_code
from mobius_otel.telemetry.redaction.statements import LITERAL, STATEMENT_WORDS, may_be_statement

__all__ = ["PROSE", "TELLING_WORDS", "WIDE_PATTERNS", "loose_credentials", "may_tell", "said"]

_Spans = Iterator[tuple[int, int, str]]
#: What a name tells.
_Of = Callable[[str], str]
#: Words that go on with a sentence, and are no secret that a name before them tells.
PROSE = word_set(
    "a an and are as at be been by can cannot could did do does expected expired failed field for from had has have if"
    " in incorrect invalid is it its malformed may mismatch missing must no not of on or please rejected required"
    " revoked should than that the their them this to too unable unexpected unknown unsupported use valid verification"
    " was were when which will with within would wrong your you denied ok accepted created updated rotated changed"
    " deleted"
    " generated issued refreshed validated verified see ask use enabled disabled new closed active inactive set unset"
    " header headers identifier unexpected punctuation keyword eof include omit match mismatch"
    " erforderlich ung\u00fcltig abgelaufen falsch vergessen ge\u00e4ndert fehlt obligatoire requis"
    " invalide expir\u00e9 oubli\u00e9 obrigat\u00f3ria obrigat\u00f3rio inv\u00e1lida incorreta incorrecta"
    " obligatoria requerida olvidada obbligatoria errata scaduta dimenticata verplicht ongeldig onjuist verlopen"
    " parse parsing converting"
    " rejects accepts drop drops adds fixes removes minst mindestens minimaal"
    " present absent str int bytes bool float any object string text number dict list tuple secretstr type none null"
    " true false optional default example abc files compat systemd all"
)

# --- credentials without a name before them ------------------------------------------------------------------

_LOOSE = re.compile(r"\b(bearer|basic)[ \t]+((?:[0-9]{1,20}\|)?[A-Za-z0-9+/=_\-.~]{8,4096}+)", re.IGNORECASE | re.ASCII)
_LOOSE_WORDS = (b"bearer", b"basic")
_MIXED = re.compile(r"[0-9_=+/]|[a-z][A-Z]")


def _is_basic(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False


def loose_credentials(text: str) -> _Spans:
    """Find credentials behind "Bearer" or "Basic"."""
    for found in _LOOSE.finditer(text):
        scheme, value = found.group(1).lower(), found.group(2)
        if value.startswith("HTTP/"):
            continue  # "?token_type=bearer HTTP/1.1"
        if _is_basic(value) if scheme == "basic" else _MIXED.search(value):
            yield *found.span(2), "authorization"


# --- prose --------------------------------------------------------------------------------------------------

# What may stand between the name and the secret: "for ann is", "has been reset to", "provided:".
_LINK = (
    r"(?: (?:is|was|has been) (?:generated|created|issued))?"
    r"(?: for (?:the |user |account ){0,2}['\"]?[^\s:='\"]{1,64}+['\"]?(?: user)?(?: \([^()\n]{1,40}\))?(?= is|:| =))?"
    r"(?: \([a-z ]{1,20}\)(?=:))?"
    r"(?: (?:(?:has been |was |is |been )?(?:(?:re)?set|changed|updated) to"
    r"|(?:mismatch|not recogni[sz]ed|invalid|unknown)[:,]?(?: got| expected)?"
    r"|(?:is|was)(?: now)?|of|to|as|now|=|-|->|\u2192|ist|lautet|est|es|provided))?(?: ?:)?"
)
_SAID = re.compile(
    r"\b((?:api|secret|access|secret access|private) key|session id|one-time (?:password|passcode|pin|code)"
    r"|pass(?:word|phrase|code|wd|wort)|kennwort|mot de passe|clave|senha|wachtwoord|contrasena|pwd?|pin(?: code)?|otp"
    r"|secret|token|cvv|cvc|ssn|cookie"
    r"|(?:access|security|verification|sms|mfa|recovery|backup|login|confirmation|auth) code"
    r"|(?:your|ihr|dein|votre|ton|uw) (?:[a-z0-9]{1,20} )?code|(?:ihre|deine) tan"
    r"|(?:su|tu) codigo"
    r"|(?:bestaetigungs|verifizierungs|einmal|verificatie|inlog)code"
    r"|(?:access|refresh|bearer|auth|csrf) token|identified by|(?:with|alter) password|session|credentials?)"
    rf"({_LINK})[ \t]{{1,2}}[\"'`]?+([^\s\"'`]{{3,512}}+)",
    re.ASCII,
)
# Said the other way round, as short messages do: "123456 is your Acme verification code", "Use 123456 as your PIN".
_TURNED = re.compile(
    r"(?<![\w.\-])(?:g-)?([0-9]{4,8}) (?:is|as) your (?:[\w.\-]{1,20} ){0,3}(?:code|pin|otp|passcode|password)\b"
)
# A column that holds passwords, a module of PAM: "password varchar(80)", "password [success=1 …]".
_DECLARED = re.compile(
    r"(?:n?(?:var)?char2?|character|varbinary|binary|string)\([0-9]{1,5}|\[(?:success|default)=", re.IGNORECASE
)
# What is said of it, and not itself: "invalid token (request_id=req-123)".
_SAID_OF_IT = re.compile(r"\([a-z_][\w.\-]{0,40}=", re.ASCII)
_METHOD = re.compile(r"[A-Za-z_]\w{0,60}(?:\.[A-Za-z_]{1,60}){1,4}\(", re.ASCII)
_QUOTES = frozenset({"'", '"'})
_PASSWORDS = frozenset({
    "identified by", "passwort", "kennwort", "mot de passe", "clave", "senha", "wachtwoord", "contrasena", "pw",
})  # fmt: skip
# What has letters beyond ASCII, or stands in a script of its own.
_FOREIGN = re.compile(
    r"(?:senha é|password è|contraseña|hasło|heslo|şifre|пароль|密码|密碼|パスワード|비밀번호"
    r"|(?P<key>clé api|api-schlüssel|密钥|密鑰|令牌|トークン)"
    r"|(?P<code>bestätigungscode|code de (?:vérification|sécurité|connexion|confirmation)|[st]e?u código"
    r"|código de (?:verifica|segur|confirma|acces|acess)[a-zãçó]{0,8}|tuo codice"
    r"|codice di (?:verifica|conferma|accesso)|(?:twój )?kod weryfikacyjny|twój kod|код подтверждения|ваш код"
    r"|验证码|驗證碼|校验码|認証コード|確認コード|認証番号|인증 ?번호|인증 ?코드))"
    r"(?: (?:es|is|to|jest|est|ist|lautet|è|é)|[是はのを为為]|[는은])?"
    r"[ \t]{0,2}[:\uff1a=\-]?[ \t]{0,2}(?:[\"'`«【\uff08(]|\[(?!redacted:))?((?:(?![\"'`:=])[!-~]){3,512}+)"
)
_CODE = re.compile(r"[0-9]{4,8}(?![0-9A-Za-z])")
# A change, as it is written down by hand: "password changed from 'X' to 'Y'", and what stands before it.
_ONE = r"(?:([\"'`])((?:(?!\{0})[^\n]){{1,512}}+)\{0}|([^\s\"'`]{{3,512}}+))"
_FROM_TO = re.compile(f" from {_ONE.format(1)} to {_ONE.format(4)}")
_CHANGES = frozenset({"changed", "updated", "rotated", "modified", "reset"})
_CHANGED = _CHANGES | {"was", "has", "been", "is", "value"}
_LONGEST_BEFORE = 160
# What follows a step of a path that is for one person: /reset/…, /verify/token/…
_PATH = re.compile(
    r"/(?:[a-z]{0,16}[\-_])?(?:reset|verify|verification|confirm|confirmation|activate|activation|invite|invitation|magic)"
    r"(?:[\-_][a-z]{1,16})?(?:/token|/[a-z0-9=]{1,8})?/([a-z0-9_\-]{16,256}+)(?![a-z0-9.])",
)
_PATH_WORDS = frozenset(
    word.encode()
    for word in word_set("reset verify verification confirm confirmation activate activation invite invitation magic")
)
_PASS = re.compile(r"(?:^|\n|[>:'\"] ?)PASS ([^\s'\"]{4,256}+)")  # FTP, POP3, IRC
_LOW_PASS = re.compile(_PASS.pattern.lower())
# What a runner of tests says has passed: "PASS src/auth/token.test.ts".
_TESTED = re.compile(
    r"(?:\.{0,2}/)?(?:[a-z_@][a-z_\-.]{0,40}/){1,16}[\w.\-]{1,200}|(?:\w{1,60}\.)?Test[A-Z]\w{1,200}", re.ASCII
)
# Where it is sure that a password follows, digit or none: SQL, a line of .netrc, "the passphrase is: …".
_SURE = re.compile(
    r"(?:(?:with|alter|login|encrypted|(?:user|role) [^\s,]{1,64}+) password"
    r"|identified (?:(?:with|via) ['\"`]?\w{1,64}+['\"`]? )?(?:by|as|using)(?: password| values)?"
    r"|set password for [^\s=]{1,128}+ ?(?:=|to)(?: ?(?:old_)?password\()?)"
    rf"[ \t]{{0,2}}(?:'({LITERAL}{{3,512}}+)'|\"([^\"\n]{{3,512}}+)\")"
    r"|machine [^\s]{1,253}+ login [^\s]{1,64}+ password ([^\s]{3,512}+)"
    r"|(?:login|user) [^\s,]{1,64}+,? (?:password|pwd|pass) ([^\s]{4,512}+)"
    r"|\bpass(?:word|phrase|code) (?:is|was):[ \t]{1,2}[\"'`]?([^\s\"'`]{6,512}+)",
    re.ASCII,
)
#: One of these stands in every text that matches it.
_SURE_MARKS = ("login ", "user ", "role ", " is:", " was:", "with password", "alter password", "encrypted ",
               "identified ", "password for")  # fmt: skip
_ACCOUNT = re.compile(r"\b(?:create|alter|grant|user|role|login|set)\b")
_SURE_WORDS = frozenset({b"password", b"pwd", b"pass", b"passphrase", b"passcode", b"identified"})
_YOURS = word_set("your ihr ihre dein deine votre ton uw su tu")
_CODES_OF_OTHERS = word_set(
    "postal zip promo discount country area status error exit booking order reference voucher coupon referral dress"
    " source bar qr product response return language currency"
)
_BEHIND = rf"{_LINK}[ \t]{{1,2}}[\"'`]?+"
_WITH_DIGIT, _LONG_ENOUGH = r"[^\s\"'`0-9]{0,512}+[0-9]", r"[^\s\"'`]{3}"
#: Words that tell something behind another one alone.
_FIRST_WORDS = {"key": ("api", "access", "secret", "private"), "id": ("session",)}
_LAST_WORDS = {word: word for word in word_set(
    "bestaetigungscode verifizierungscode einmalcode verificatiecode inlogcode tan codigo"
    " password passphrase passcode passwd passwort kennwort passe clave senha wachtwoord contrasena pw pwd pin code otp"
    " secret token cvv cvc ssn cookie session credential credentials"
)} | {
    word: f"{word}(?:{'|'.join(f'(?<={first} {word})' for first in firsts)})" for word, firsts in _FIRST_WORDS.items()
} | {"identified": "identified by"}  # fmt: skip
#: What a sentence tells ends with one of these words, and a digit is in the word behind it, unless it is "my" one: the
#: first pattern of each, and the second.
_TOLD = {
    word.encode(): (
        re.compile(f"{begin}{said[1:]}{_BEHIND}(?={_WITH_DIGIT})", re.ASCII),
        re.compile(f"{begin}{said[1:]}{_BEHIND}(?={_LONG_ENOUGH}|{_WITH_DIGIT})", re.ASCII),
    )
    for word, said in _LAST_WORDS.items()
    for begin in [f"{said[0]}(?<![0-9a-z]{said[0]})"]  # a letter first, which is found quickly
}
#: What a text holds one of, in lower case and as a whole word, where a sentence in it tells something.
TELLING_WORDS = frozenset((
    *_TOLD, *_SURE_WORDS, b"bearer", b"basic", b"changed", b"updated", b"rotated", *STATEMENT_WORDS, *_PATH_WORDS,
    *REJECTING_WORDS, *BINDING_WORDS, b"rawheaders",
))  # fmt: skip
#: Patterns that RE2 can run, too; one of them matches wherever :func:`may_tell` has a place in ASCII for its word: the
#: words with what stands behind them, and those that only tell something behind another one together with it.
WIDE_PATTERNS = [
    (word, f"(?i:{'|'.join(first + ' ' for first in firsts) or '[^0-9A-Za-z]'})(?i:{word.decode()}){behind}")
    for word in sorted(TELLING_WORDS)
    for firsts in [_FIRST_WORDS.get(word.decode(), ())]
    for behind in ["(?:[^0-9A-Za-z]|$)"]
] + [(b"otp", "(?i: [ia]s your )")]


def may_tell(text: str, words: Collection[bytes], of: _Of) -> list[int]:
    """Suspect what a sentence may tell: "the PIN is 1234", "Bearer …", "insert into … values".

    Args:
        text: Texts in lines of their own.
        words: Those of :data:`TELLING_WORDS` that stand in them, in lower case.
        of: What a name tells.
    """
    low = text.lower()
    places: list[int] = []
    mine = "my " in low or "mi " in low
    if not low.isascii():
        places += [found.start() for found in _FOREIGN.finditer(low)]
    if not _PATH_WORDS.isdisjoint(words):
        places += [found.start() for found in _PATH.finditer(low) if _is_token(found.group(1))]
    if " from " in low and " to " in low:
        places += [start for start, _, _ in _changes(text, of)]
    if b"pass" in words and "pass " in low:
        places += [found.start() for found in _LOW_PASS.finditer(low)]
    if not _SURE_WORDS.isdisjoint(words) and [mark for mark in _SURE_MARKS if mark in low]:
        places += [found.start() for found in _SURE.finditer(low)]
    if " is your " in low or " as your " in low:
        places += [found.start() for found in _TURNED.finditer(low)]
    for word in words:
        if tells := _TOLD.get(word):
            if tells[mine].search(low):
                places += [found.start() for found in tells[mine].finditer(low)]
        elif word in _LOOSE_WORDS:
            places += [found.start() for found in _LOOSE.finditer(low)]
        elif word in STATEMENT_WORDS:
            places += may_be_statement(text, low, word, of)
    return places


def said(text: str, of: _Of) -> _Spans:
    """Find what a sentence tells: "the PIN is 1234", "my password: …"."""
    low = text.lower()
    if len(low) != len(text):  # a letter whose lower case is two
        low = "".join(c.lower() if c.isascii() else c for c in text)
    yield from sorted(_said(text, low, of), key=lambda span: (span[0], -span[1]))


def _said(text: str, low: str, of: _Of) -> _Spans:
    for found in _SAID.finditer(low):
        what, link = found.group(1), bool(found.group(2))
        kind = _told(what, of)
        end = found.end()
        start, value = _unwrapped(text, found.start(3), end)
        if kind == "otp" and "pass" in what and not value.isdigit():
            kind = of("password")  # "your one-time password is …"
        mine = link and low.startswith("my ", max(0, found.start() - 3))
        if (
            kind in (SCAN, TRUST)
            or keeps(kind, value)
            or value.startswith(("[redacted:", "HTTP/"))  # and what stands behind it; "GET /reset-password HTTP/1.1"
            or _SAID_OF_IT.match(low, found.start(3))
            or (what == "password" and _DECLARED.match(value))
            or is_length_of_time(value)
            or ("](" in value and value[: value.index("](")].isalpha())  # the end of a link: "Token Usage](https://…"
            or (text[end : end + 1] in _QUOTES and _METHOD.fullmatch(value))  # a pair tells what it is given
            or (value[:1].isupper() and is_empty_field(text, found.start(1), start))
            or ("=" in found.group(2) and is_code(text, (start, start + len(value.rstrip("]"))), what, kind, of))
            or not (
                _tells(kind, value, link)
                or (mine and kind == "password" and len(value) > 5 and low[start : start + len(value)] not in PROSE)
            )
        ):
            continue
        yield start, start + len(value), kind
    if of("password") != SCAN:
        for found in _SURE.finditer(low):
            start, end = found.span(found.lastindex or 0)
            value = text[start:end].rstrip(".,;!?)")
            # "user form, password reset"
            word = found.lastindex == 4 and value.isalpha() and value.islower() and " pwd " not in found.group()
            if " " in value and not _ACCOUNT.search(low, max(0, found.start() - _LONGEST_BEFORE), start):
                continue  # "identified by 'name and date'"
            if not word and not keeps("password", value) and value.lower() not in PROSE:
                yield start, start + len(value), "password"
    if (" is your " in low or " as your " in low) and of("otp") != SCAN:
        for found in _TURNED.finditer(low):
            yield *found.span(1), "otp"
    if " from " in low and " to " in low:
        yield from _changes(text, of)
    if "PASS " in text and of("password") != SCAN:
        for found in _PASS.finditer(text):
            if not keeps("password", found.group(1)) and not _TESTED.fullmatch(found.group(1)):
                yield *found.span(1), "password"
    if "/" in low and of("token") != SCAN:
        for found in _PATH.finditer(low):
            if _is_token(found.group(1)):
                yield *found.span(1), "token"
    if not low.isascii():
        for found in _FOREIGN.finditer(low):
            start, end = found.span(3)
            value, kind = text[start:end].rstrip(".,;!?)"), of("token" if found.group("key") else "password")
            if found.group("code"):
                digits = _CODE.match(value)
                value, kind = digits.group() if digits else "", of("otp")
            if kind != SCAN and not keeps(kind, value) and _tells(kind, value, said=True):
                yield start, start + len(value), kind


def _changes(text: str, of: _Of) -> _Spans:
    """Find both values of a change: "api_key changed from 'X' to 'Y'", "changed password from X to Y"."""
    for found in _FROM_TO.finditer(text):
        before = text[max(0, found.start() - _LONGEST_BEFORE) : found.start()].rpartition("\n")[2].split()
        changes = not _CHANGES.isdisjoint(map(str.lower, before[-5:]))
        while before and before[-1].lower() in _CHANGED:
            before.pop()
        names = [word.strip("\"'`:[](){}<>,.") for word in before[-2:]]
        kind = next((kind for name in (names[-1:], names) if (kind := of(" ".join(name))) not in (SCAN, TRUST)), SCAN)
        if not changes and kind != "password":
            continue  # "copies the token from a to b"
        for quote, quoted, bare in ((1, 2, 3), (4, 5, 6)):
            start, end = found.span(quoted if found.group(quote) else bare)
            value = text[start:end] if found.group(quote) else text[start:end].rstrip(".,;!?)")
            sure = found.group(quote) and kind in {"password", "secret"}
            if kind in (SCAN, TRUST) or keeps(kind, value) or says_count(names[-1], value):
                continue
            if sure or any(map(str.isdigit, value)):
                yield start, start + len(value), kind


def _unwrapped(text: str, start: int, end: int) -> tuple[int, str]:
    """Return where a word begins without what is around it in a sentence, and the word: ``(…)``, ``**…**``."""
    value = text[start:end].rstrip(".,;!?)")
    if value[:1] == "(" and text.startswith(")", start + len(value)):
        return start + 1, value[1:]
    if value[:2] == value[-2:] == "**" and len(value) > 6:
        return start + 2, value[2:-2]
    return start, value


def _is_token(step: str) -> bool:
    """Return whether a step of a path is no words with hyphens: ``cbj2xv-5b9b6c1d0e8a7f6c``, but ``e-mail-2024``."""
    return any(not part.isalpha() and not part.isdigit() for part in step.replace("_", "-").split("-") if part)


def _told(what: str, of: _Of) -> str:
    """Return the kind that a name in a sentence tells."""
    if what in _PASSWORDS:
        return of("password")
    first, _, rest = what.partition(" ")
    if first in _YOURS:
        return SCAN if rest.partition(" ")[0] in _CODES_OF_OTHERS else of("otp")
    return of("otp") if what.startswith("one-time ") else of(what)


def _tells(kind: str, value: str, said: bool) -> bool:
    """Return whether the word behind "the password" looks like one, and not like the rest of a sentence.

    Args:
        kind: What the name tells.
        value: The word.
        said: Whether "is" or the like stands before it.
    """
    digits = sum(map(str.isdigit, value))
    if kind == "otp" and digits > 1 and len(value) >= 8 and "-" in value:
        return all(part.isalnum() for part in value.split("-"))  # a recovery code
    if kind in {"pin", "cvv", "otp"}:
        return value.isdigit() and 3 <= digits <= 8
    if kind == "password":
        return bool(digits) and len(value) >= 5 and digits < len(value)
    if digits == 1 and len(value) >= 16:
        return _is_mixed(value)
    return digits > 1 and len(value) >= (10 if said else 16) and digits < len(value)


def _is_mixed(value: str) -> bool:
    """Return whether letters in both cases, digits and signs follow each other as in no word and no name."""
    sorts = [0 if char.islower() else 1 if char.isupper() else 2 if char.isdigit() else 3 for char in value]
    changes = sum(before != behind for before, behind in pairwise(sorts))
    return {0, 1} <= {*sorts} and changes >= 0.35 * len(value)
