"""Which names say that their value is a secret.

A name is cut into words (``newPassword``, ``x-api-key``, ``DB_PASS``, ``user[pin]``) and judged by its last
ones, never by a part of a word: ``author``, ``monkey``, ``token_count``, ``password_changed_at`` and
``compass`` say nothing about a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

__all__ = ["HARMLESS_INSIDE", "NAME_KINDS", "SCAN", "TRUST", "NameRules", "keeps", "word_set", "words"]

#: The value under this name is looked into.
SCAN = ""
#: The value under this name is a known, harmless one and is not looked into.
TRUST = "+"

_LONGEST = 256
_CACHED = 4096
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


#: What no name holds: a text that happens to end with a telling word tells nothing of what stands beside it.
_NO_NAME = re.compile(r"[=\n\"'(){};,<>?&|!]|: |redacted:|(?: [^ ]*){4}")


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


#: Every kind that a name can tell.
NAME_KINDS = word_set(
    "password secret token api_key private_key credential authorization cookie session pin cvv otp ssn iban card"
    " signature phone name"
)

_PASSWORD = word_set("password passwords passwd pwd passphrase passphrases passcode passwort pswd psw passw")
_SECRET = word_set("secret secrets pepper mnemonic")
_TOKEN = word_set("token tokens jwt jwts bearer csrf xsrf")
_COOKIE = word_set("cookie cookies")
_CREDENTIAL = word_set("credential credentials cred creds")
_CVV = word_set("cvv cvc cvn csc")
_PHONE = word_set("phone phones telephone telephones mobile msisdn fax cellphone whatsapp")
_OTP = word_set("otp totp hotp")
#: A token after one of these is a place in a list or a piece of text, not a secret.
_CURSORS = word_set(
    "next page continuation pagination sync resume cursor prev previous stop eos bos pad unk mask special first last"
    " cancellation cancel"
)
_API_KEYS = word_set(
    "api access account shared subscription service app application license licence deploy webhook auth storage client"
    " function project integration consumer admin write"
)
_PRIVATE_KEYS = word_set(
    "private secret signing encryption encrypt decryption master hmac ssh rsa pgp gpg session aes tls"
)
_CODES = word_set(
    "mfa otp totp fa verification verify auth authorization sms recovery backup access reset login time pass"
)
#: Words before "pass" that make it something else than a password.
_PASSES = word_set(
    "boarding test tests first second bus season ski render check low high band by all one single day multi"
)
#: Words that a name begins with when its value is a fact about secrets.
_FACTS = word_set(
    "is has had no num max min total count n use uses used using needs require requires required allow allows enable"
    " enabled disable disabled show hide supports missing invalid per"
)
#: What may follow the telling word without changing what it tells.
_ENDINGS = word_set(
    "value val raw plain plaintext text string str input new old current confirm confirmation again repeat b64 base64"
    " hex encoded encrypted hash hashed primary secondary prod production dev staging live env bytes header"
)
#: Names written in one piece, by what they end with.
_SUFFIXES = (
    ("password", "password"), ("passwd", "password"), ("passphrase", "password"), ("passcode", "password"),
    ("apikey", "api_key"), ("accesskey", "api_key"), ("authkey", "api_key"), ("accountkey", "api_key"),
    ("secretkey", "private_key"), ("privatekey", "private_key"), ("signingkey", "private_key"),
    ("encryptionkey", "private_key"), ("masterkey", "private_key"),
    ("sessionid", "session"), ("sessid", "session"), ("setcookie", "cookie"),
    ("cardnumber", "card"), ("ccnumber", "card"), ("creditcard", "card"), ("cardno", "card"), ("ccnum", "card"),
    ("socialsecuritynumber", "ssn"), ("securitycode", "cvv"), ("pincode", "pin"),
    ("mfacode", "otp"), ("otpcode", "otp"), ("clientsecret", "secret"), ("apisecret", "secret"),
    ("appsecret", "secret"), ("apitoken", "token"), ("authtoken", "token"), ("accesstoken", "token"),
    ("refreshtoken", "token"), ("idtoken", "token"), ("csrftoken", "token"), ("xsrftoken", "token"),
    ("middlewaretoken", "token"), ("bearertoken", "token"), ("sessiontoken", "token"), ("usertoken", "token"),
    ("sastoken", "token"), ("bottoken", "token"), ("phonenumber", "phone"), ("mobilenumber", "phone"),
    ("dbpass", "password"), ("dbpwd", "password"),
    ("userpass", "password"), ("userpwd", "password"), ("sshpass", "password"), ("mysqlpwd", "password"),
    ("awsaccesskeyid", "aws"), ("googleaccessid", "credential"), ("accesssignature", "signature"),
)  # fmt: skip

_ANY_SUFFIX = tuple(suffix for suffix, _ in _SUFFIXES)

#: Inside a container with a secret name, these still say something harmless.
HARMLESS_INSIDE = word_set(
    "type id name username user count method expires expires_in expires_at expires_on expire expiry expiration"
    " not_before not_after scope scopes algorithm alg created updated created_at updated_at path domain secure httponly"
    " samesite max_age status present length region version provider issuer role enabled required kind state"
)

_TRUSTED = word_set(
    "user_agent.original user_agent http.user_agent http.route http.method http.request.method"
    " http.request.method_original http.response.status_code http.status_code http.flavor http.scheme url.scheme"
    " http.client_ip net.sock.peer.addr net.sock.host.addr source.address destination.address http.host host.ip"
    " client.address client.port server.address server.port net.peer.ip net.peer.port net.host.name net.host.port"
    " trace_id span_id traceid spanid trace_flags parent_id parent_span_id log.record.uid timestamp time ts"
    " observed_timestamp version level levelname severity severity_text severity_number error.type exception.type"
    " audit.record.id audit.action audit.outcome audit.actor.type audit.target.type audit.source.id"
    " audit.source.type audit.schema.version audit.integrity.value audit.integrity.canonicalization"
    " service.version service.name service.namespace service.instance.id process.pid process.runtime.name"
    " process.runtime.version process.runtime.description app.version code.function.name code.file.path"
    " code.line.number thread.id thread.name host.arch os.type os.version container.id"
)
_TRUSTED_PREFIXES = (
    "network.", "telemetry.", "otel.", "audit.sequence.", "mobius.rate_limit.", "mobius.api_key.",
    "mobius.redaction.", "mobius.guard.", "mobius.within", "mobius.outcome", "mobius.count", "mobius.component",
    "mobius.audit.result", "mobius.audit.risk_score", "mobius.audit.owasp", "mobius.audit.ocsf_type_uid",
)  # fmt: skip

#: A version such as 1.2.3.4 looks like an address.
_VERSIONS = ("_version", ".version", "-version", "appversion")


def words(name: str) -> tuple[str, ...]:
    """Cut a name into its words, in lower case.

    Example:
        >>> words("X-ApiKey_v2"), words("user[newPassword]"), words("APIKeyID")
        (('x', 'api', 'key', 'v', '2'), ('user', 'new', 'password'), ('api', 'key', 'id'))
    """
    return tuple(word.lower() for word in _WORD.findall(name[-_LONGEST:]))


def _key(owner: str, all_words: tuple[str, ...]) -> str:
    if "public" in all_words or "publishable" in all_words:
        return SCAN
    if owner in _API_KEYS:
        return "api_key"
    return "private_key" if owner in _PRIVATE_KEYS else SCAN


def _code(owner: str) -> str:
    if owner == "security":
        return "cvv"
    if owner == "pin":
        return "pin"
    return "otp" if owner in _CODES else SCAN


def _number(owner: str, all_words: tuple[str, ...]) -> str:
    if owner in {"card", "cc"} or (owner == "account" and "primary" in all_words):
        return "card"
    if owner == "pin":
        return "pin"
    if owner in _PHONE or owner == "cell":
        return "phone"
    return "ssn" if owner == "security" and "social" in all_words else SCAN


def _by_last_word(last: str, owner: str, all_words: tuple[str, ...]) -> str:
    """Return the kind that the last word tells, looking at the one before it where that decides."""
    if last in _PASSWORD or (last == "pass" and owner not in _PASSES):
        return "password"
    if last in _SECRET or (last == "salt") or (last == "phrase" and owner in {"seed", "recovery", "secret", "pass"}):
        return "secret"
    if last in _TOKEN:
        return SCAN if owner in _CURSORS else "token"
    if last in {"key", "keys"}:
        return _key(owner, all_words)
    if last == "authorization" or (last == "auth" and owner in {"", "x", "http", "basic", "proxy", "bearer"}):
        return "authorization"
    if last in _COOKIE:
        return "cookie"
    if last in _CREDENTIAL:
        return "credential"
    if (last == "id" and owner in {"session", "sess"}) or (last == "sid" and owner in {"", "connect"}):
        return "session"
    if last == "session" and owner == "":
        return "session"
    if last == "pin":
        return SCAN if owner in {"gpio", "led", "analog", "digital", "map", "board"} else "pin"
    if last in _CVV:
        return "cvv"
    if last in _OTP or (last == "seed" and owner in _CODES):
        return "otp"
    if last in {"code", "codes"}:
        return _code(owner)
    if last in {"number", "num", "no"}:
        return _number(owner, all_words)
    if last in {"ssn", "itin"} or (last == "security" and owner == "social"):
        return "ssn"
    if last == "iban":
        return "iban"
    if last in _PHONE:
        return "phone"
    if last == "pan" or (last == "card" and owner in {"credit", "debit", "bank", "payment"}):
        return "card"
    if last in {"signature", "sig"} and owner not in {"method", "function", "call", "type", "event"}:
        return "signature"
    return SCAN


def _judge(name: str) -> str:
    if _NO_NAME.search(name):
        return SCAN
    found = words(unquote(name) if "%" in name else name)
    if not found or (found[0] in _FACTS and len(found) > 1):
        return SCAN
    end = len(found)
    while end > 1 and (found[end - 1] in _ENDINGS or found[end - 1].isdigit()):
        end -= 1
    if kind := _by_last_word(found[end - 1], found[end - 2] if end > 1 else "", found):
        return kind
    tail = found[end - 1]
    if tail.endswith(_ANY_SUFFIX):
        return next(kind for suffix, kind in _SUFFIXES if tail.endswith(suffix))
    if len(found) > 1:  # pAssWord, Api_Key_ID: the whole name in one piece
        whole = "".join(found)
        return "password" if whole == "password" else ("aws" if whole == "awsaccesskeyid" else SCAN)
    if tail.endswith("token") and not any(tail.startswith(cursor) for cursor in _CURSORS):
        return "token"
    return SCAN


class NameRules:
    """What the names of one policy say, with a bounded memory of what was asked.

    Args:
        names: Further secret names; each holds also as the end of a longer one.
        trusted: Further trusted names, exactly as they are written; a trailing ``*`` stands for any rest.
        off: Kinds that are not looked for.

    Example:
        >>> rules = NameRules(names=["badge no"])
        >>> rules.of("newPassword"), rules.of("employee_badge_no"), rules.of("token_count")
        ('password', 'name', '')
    """

    __slots__ = ("_cache", "_extra", "_off", "_prefixes", "_trusted")

    def __init__(
        self, names: Iterable[str] = (), trusted: Iterable[str] = (), off: frozenset[str] = frozenset()
    ) -> None:
        self._extra = tuple(words(name) for name in names)
        mine = [name.lower() for name in trusted]
        self._trusted = _TRUSTED | {name for name in mine if not name.endswith("*")}
        self._prefixes = tuple(name[:-1] for name in mine if name.endswith("*"))
        self._off = off
        self._cache: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the kind of secret that `name` announces, or :data:`SCAN` or :data:`TRUST`."""
        known = self._cache.get(name)
        if known is None:
            known = self._judge(name)
            if len(name) <= _LONGEST:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                self._cache[name] = known
        return known

    def _judge(self, name: str) -> str:
        lower = name.lower()
        if lower in self._trusted or (self._prefixes and lower.startswith(self._prefixes)):
            return TRUST
        if self._extra:
            found = words(name)
            if any(found[-len(extra) :] == extra for extra in self._extra if extra) and "name" not in self._off:
                return "name"
        kind = _judge(name)
        if kind == SCAN and (lower.startswith(_TRUSTED_PREFIXES) or lower.endswith(_VERSIONS)):
            return TRUST
        return SCAN if kind in self._off else kind


_PLACEHOLDER = re.compile(
    r"""(?:
      \[redacted:[a-z0-9_]{1,40}(?::(?:[0-9A-Z]{4}|[a-z0-9_]{1,16}\.[a-z2-7]{16}))?\]? | [*•xX.#\-_?]{0,64}
      | [\[<(]{0,2}(?:redacted|filtered|hidden|masked|scrubbed|removed|omitted|secret)[\])>]{0,2}
      | \$\{[^}]{0,100}\} | \{\{[^}]{0,100}\}\} | \{\w{0,40}\} | %\(\w{1,40}\)s | %s | \$[A-Z_]{3,40} | \$[0-9]{1,3}
      | :\w{1,40}
      | <[\w \-]{1,40}>
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_NOTHING = word_set(
    "true false none null nil undefined n/a na unset empty yes no on off required optional string missing"
)
_SCHEMES = word_set(
    "basic bearer digest oauth oauth2 oidc saml jwt none token apikey api_key password mtls ldap kerberos ntlm"
    " negotiate hmac anonymous required optional ok approved declined denied granted pending enabled disabled failed"
    " success"
)


def keeps(kind: str, value: str) -> bool:
    """Return whether a value under a secret name is no secret after all: empty, a mask, a placeholder.

    Example:
        >>> keeps("password", "hunter2"), keeps("password", "****"), keeps("password", "${DB_PASSWORD}")
        (False, True, True)
    """
    if len(value) <= 128:
        stripped = value.strip()
        if _PLACEHOLDER.fullmatch(stripped) or stripped.lower() in _NOTHING:
            return True
    if kind == "authorization":
        return value.strip().lower() in _SCHEMES
    if kind == "card":
        return sum(map(str.isdigit, value[:64])) < 8
    if kind == "phone":
        return sum(map(str.isdigit, value[:64])) < 7 or len(value) > 40
    if kind == "session":
        return len(value) < 8 and not any(map(str.isdigit, value))
    return False
