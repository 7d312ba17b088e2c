"""Which names say that their value is a secret.

A name is cut into words (``newPassword``, ``x-api-key``, ``DB_PASS``, ``user[pin]``) and judged by its last
ones, never by a part of a word: ``author``, ``monkey``, ``token_count``, ``password_changed_at`` and
``compass`` say nothing about a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from mobius_otel.telemetry.redaction import languages
from mobius_otel.telemetry.redaction.values import keeps

__all__ = [
    "DEPENDING",
    "HARMLESS_INSIDE",
    "NAME_KINDS",
    "SCAN",
    "SCHEMA_NAMES",
    "SCHEMA_TYPES",
    "TRUST",
    "NameRules",
    "is_setting",
    "keeps",
    "says_count",
    "says_id",
    "word_set",
    "words",
]

#: The value under this name is looked into.
SCAN = ""
#: The value under this name is a known, harmless one and is not looked into.
TRUST = "+"

_LONGEST = 256
_CACHED = 4096
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_a-zA-Z]+")


#: What may stand behind a name: "password (new)", "password=".
_BEHIND = re.compile(r"(?<=[A-RT-Za-rt-z])(?: \((?:new|old|current|confirm|again|repeat|plain|raw|hash)\)|[=:])\Z")
_ENDS = frozenset(")=:")
#: A setting of .NET or of an environment, in sections: "Jwt:Key", "ApiKeys__Stripe".
_IN_SECTIONS = re.compile(r"(?:([A-Z][A-Za-z]{0,40})(?::|__)){1,6}([A-Z][A-Za-z]{0,40})")
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

#: Words that tell wherever they stand last.
_WORDS = {
    **languages.WORDS,
    **dict.fromkeys(word_set("password passwords passwd pwd passphrase passphrases passcode"), "password"),
    **dict.fromkeys(word_set("pswd psw passw pw psk"), "password"),
    **dict.fromkeys(word_set("secret secrets pepper mnemonic salt"), "secret"),
    **dict.fromkeys(word_set("cookie cookies"), "cookie"),
    **dict.fromkeys(word_set("credential credentials cred creds"), "credential"),
    **dict.fromkeys(word_set("cvv cvc cvn csc"), "cvv"),
    **dict.fromkeys(word_set("otp totp hotp"), "otp"),
    **dict.fromkeys(word_set("ssn itin"), "ssn"),
    "authorization": "authorization", "iban": "iban", "pan": "card",
}  # fmt: skip
_PHONE = word_set("phone phones telephone telephones mobile msisdn fax cellphone whatsapp")
_WORDS.update(dict.fromkeys(_PHONE, "phone"))
#: Two words that tell together.
_PHRASES = {
    **languages.PHRASES,
    **dict.fromkeys(("seed phrase", "recovery phrase", "secret phrase", "pass phrase", "key base"), "secret"),
    **dict.fromkeys(("security answer", "security answers", "secret answer", "secret answers"), "secret"),
    **dict.fromkeys(("code verifier", "oauth verifier", "client assertion", "token hint"), "token"),
    **dict.fromkeys(("saml response", "saml request", "saml assertion"), "token"),
    **dict.fromkeys(("session id", "sess id", "connect sid"), "session"),
    **dict.fromkeys(("credit card", "debit card", "bank card", "payment card"), "card"),
    "social security": "ssn",
}
_TOKEN = word_set("token tokens jwt jwts bearer csrf xsrf")
#: Words that tell behind another one, or the name of what is around them; see :func:`_by_last_word`.
DEPENDING = (
    _TOKEN
    | word_set("key keys pat auth pin seed code codes number num no signature sig pass sid session")
    | {phrase.split()[-1] for phrase in _PHRASES}
)
#: A token after one of these is a place in a list or a piece of text, not a secret.
_CURSORS = word_set(
    "next page continuation pagination sync resume cursor prev previous stop eos bos pad unk mask special first last"
    " cancellation cancel design"
)
_LIMITS = word_set("ratelimit limit limits")
_API_KEYS = word_set(
    "api access account shared subscription service app application license licence deploy webhook auth storage client"
    " function functions project integration consumer admin write developer preshared validation"
    " stripe openai anthropic sendgrid mailgun twilio mapbox maps datadog sentry algolia pusher firebase supabase"
    " github gitlab slack azure aws gcp google cloudflare cohere groq deepl rapidapi"
)
_PRIVATE_KEYS = word_set(
    "jwt unseal private secret signing encryption encrypt decryption master hmac ssh rsa pgp gpg session aes tls fernet"
)
#: Whose personal access tokens are called "pat".
_HOSTS = word_set("gh github gl gitlab azure devops ado ext git bitbucket jira atlassian snowflake databricks")
#: Frameworks whose cookie is called after them: laravel_session. Any other owner's is mostly a state, or an object.
_SESSIONS = word_set("laravel ci rails codeigniter october symfony koa play")
_CODES = word_set(
    "mfa otp totp fa tfa factor verification verify confirmation auth authorization authenticator sms recovery backup"
    " access reset login time pass"
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
#: What may follow the telling word without changing what it tells; digits too: "password_b64", "token_sha256".
_ENDINGS = word_set(
    "value val raw plain plaintext text string str input new old current confirm confirmation again repeat b base"
    " sha md hex encoded encrypted hash hashed primary secondary prod production dev staging live env bytes header"
)
_ENDINGS |= languages.ENDINGS
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
    ("rootpw", "password"), ("bindpw", "password"),
    ("sastoken", "token"), ("bottoken", "token"), ("phonenumber", "phone"), ("mobilenumber", "phone"),
    ("dbpass", "password"), ("dbpwd", "password"), ("requirepass", "password"), ("masterauth", "password"),
    ("userpass", "password"), ("userpwd", "password"), ("sshpass", "password"),
    ("storepass", "password"), ("keypass", "password"), ("mysqlpwd", "password"),
    ("awsaccesskeyid", "aws"), ("googleaccessid", "credential"), ("accesssignature", "signature"),
    ("dockerconfigjson", "credential"), ("dockercfg", "credential"),
    ("presharedkey", "api_key"), ("secretkeybase", "secret"), ("samlresponse", "token"), ("samlrequest", "token"),
    *languages.SUFFIXES,
)  # fmt: skip

_ANY_SUFFIX = tuple(suffix for suffix, _ in _SUFFIXES)

#: Inside a container with a secret name, these still say something harmless.
HARMLESS_INSIDE = word_set(
    "type id name username user count method expires expires_in expires_at expires_on expire expiry expiration"
    " not_before not_after scope scopes algorithm alg created updated created_at updated_at last_used last_used_at"
    " rotated_at revoked_at path domain secure httponly samesite max_age status present length region version provider"
    " issuer role enabled required kind state namespace createdate create_date host port external format"
    " secretname audience kid fingerprint channel sent_at transports"
)

#: What a description of a field says besides, and the types that tell it from a value: JSON Schema, OpenAPI, forms.
SCHEMA_NAMES = word_set(
    "description title pattern minlength maxlength minimum maximum minitems maxitems multipleof readonly writeonly"
    " nullable deprecated $ref $comment items properties additionalproperties anyof oneof allof contentencoding"
    " contentmediatype in scheme bearerformat openidconnecturl flows label help hint placeholder"
    " autocomplete sensitive description_kind"
)
SCHEMA_TYPES = word_set(
    "string integer number boolean array object null apiKey http oauth2 openIdConnect password text varchar hidden"
)

_TRUSTED = word_set(
    "user_agent.original user_agent http.user_agent http.route http.method http.request.method"
    " http.request.method_original http.response.status_code http.status_code http.flavor http.scheme url.scheme"
    " http.client_ip net.sock.peer.addr net.sock.host.addr source.address destination.address http.host host.ip"
    " client.address client.port server.address server.port net.peer.ip net.peer.port net.host.name net.host.port"
    " trace_id span_id traceid spanid trace_flags parent_id parent_span_id timestamp time ts"
    " observed_timestamp version level levelname severity severity_text severity_number error.type exception.type"
    " service.version service.name service.namespace service.instance.id process.pid process.runtime.name"
    " process.runtime.version process.runtime.description app.version code.function.name code.file.path"
    " code.line.number thread.id thread.name host.arch os.type os.version container.id otel.status_code"
)
_TRUSTED_PREFIXES = ("network.", "telemetry.", "otel.scope.", "otel.library.", "otel.component.")
#: Those that this package writes: what somebody else puts under them is no more trusted than the rest of it.
_OURS = word_set(
    "log.record.uid audit.record.id audit.action audit.outcome audit.actor.type audit.target.type audit.source.id"
    " audit.source.type audit.schema.version audit.integrity.value audit.integrity.canonicalization"
)
_OUR_PREFIXES = (
    "audit.sequence.", "mobius.rate_limit.", "mobius.api_key.", "mobius.redaction.", "mobius.guard.", "mobius.within",
    "mobius.outcome", "mobius.count", "mobius.component", "mobius.audit.result", "mobius.audit.risk_score",
    "mobius.audit.owasp", "mobius.audit.ocsf_type_uid",
)  # fmt: skip

#: A version such as 1.2.3.4 looks like an address.
_VERSIONS = ("_version", ".version", "-version", "appversion")


def words(name: str) -> tuple[str, ...]:
    """Cut a name into its words, in lower case.

    Example:
        >>> words("X-ApiKey_v2"), words("user[newPassword]"), words("APIKeyID")
        (('x', 'api', 'key', 'v', '2'), ('user', 'new', 'password'), ('api', 'key', 'id'))
    """
    end = name[-_LONGEST:]
    return tuple(word.lower() for word in _WORD.findall(end if end.isascii() else languages.plain(end)))


def says_count(name: str, value: str) -> bool:
    """Return whether a value is how many of something there are: ``tokens`` of 512.

    Example:
        >>> says_count("tokens", "512"), says_count("token", "512"), says_count("DB_PASS", "1234")
        (True, False, False)
    """
    return value.isdigit() and name[-1:] in {"s", "S"} and not name.lower().endswith("pass")


def says_id(name: str) -> bool:
    """Return whether a long number under a name is one that was given out in turn, and no card.

    Example:
        >>> says_id("order_id"), says_id("messageId"), says_id("card_id"), says_id("number")
        (True, True, False, False)
    """
    found = words(name)
    return found[-1:] in {("id",), ("ids",)} and "card" not in found and "pan" not in found


def _key(owner: str, all_words: tuple[str, ...]) -> str:
    if "public" in all_words or "publishable" in all_words:
        return SCAN
    if owner in _API_KEYS:
        return "api_key"
    return "private_key" if owner in _PRIVATE_KEYS else SCAN


def _code(owner: str) -> str:
    if owner in {"security", "cvv", "cvc"}:
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
    if last in {"secret", "secrets"} and owner in {"existing", "pull"}:  # existingSecret of Helm names one
        return SCAN
    if known := _WORDS.get(last) or _PHRASES.get(f"{owner} {last}"):
        return known
    if last == "pass":
        return SCAN if owner in _PASSES else "password"
    if last in _TOKEN:
        if last == "tokens" and not _LIMITS.isdisjoint(all_words):  # x-ratelimit-reset-tokens
            return SCAN
        return SCAN if owner in _CURSORS or (owner == "key" and "public" in all_words) else "token"  # PublicKeyToken
    if last in {"key", "keys"}:
        return _key(owner, all_words)
    if last == "pat":
        return "token" if owner in _HOSTS else SCAN
    if last == "auth":
        return "authorization" if owner in {"", "x", "http", "basic", "proxy", "bearer"} else SCAN
    if last in {"sid", "session"}:
        return SCAN if owner and owner not in _SESSIONS else "session"
    if last == "pin":
        return SCAN if owner in {"gpio", "led", "analog", "digital", "map", "board"} else "pin"
    if last == "seed":
        return "otp" if owner in _CODES else SCAN
    if last in {"code", "codes"}:
        return _code(owner)
    if last in {"number", "num", "no"}:
        return _number(owner, all_words)
    if last in {"signature", "sig"} and owner not in {"method", "function", "call", "type", "event"}:
        return "signature"
    return SCAN


def is_setting(name: str) -> bool:
    """Return whether a name is one of a setting in sections, and no name and a value: ``Jwt:Key``.

    Example:
        >>> is_setting("ApiKeys:Stripe"), is_setting("token:read")
        (True, False)
    """
    return ":" in name and _IN_SECTIONS.fullmatch(name) is not None


def _by_section(name: str) -> str:
    """Return the kind that the section of a setting tells: ``Token:Key``, ``ApiKeys:Stripe``, ``Secrets__Stripe``."""
    setting = _IN_SECTIONS.fullmatch(name)
    if not setting:
        return SCAN
    section, last = setting.groups()
    kind = _judge(section)
    if kind in {"token", "secret"} and last.lower() == "key":
        return kind
    listed = section[-1] in {"s", "S"} and kind in {"api_key", "secret", "private_key", "credential"}
    return kind if listed and last.lower() not in HARMLESS_INSIDE else SCAN


def _judge(name: str) -> str:
    if name[-1:] in _ENDS and (behind := _BEHIND.search(name)):
        name = name[: behind.start()]
    if _NO_NAME.search(name):
        return SCAN
    found = words(unquote(name) if "%" in name else name)
    if not found or (found[0] in _FACTS and len(found) > 1 and found != ("enable", "secret")):  # as Cisco calls one
        return SCAN
    end = len(found)
    while end > 1 and (found[end - 1] in _ENDINGS or found[end - 1].isdigit()):
        end -= 1
    tail, before = found[end - 1], end - 2
    while before > 0 and found[before] in languages.LINKS:  # "mot de passe"
        before -= 1
    if kind := _by_last_word(tail, found[before] if before >= 0 else "", found):
        return kind
    if tail.endswith(_ANY_SUFFIX):
        return next(kind for suffix, kind in _SUFFIXES if tail.endswith(suffix))
    if found[-3:] == ("client", "key", "data"):  # of a kubeconfig
        return "private_key"
    if found[:2] == ("tf", "token"):  # TF_TOKEN_app_terraform_io
        return "token"
    if len(found) > 1:  # pAssWord, Api_Key_ID: the whole name in one piece
        whole = "".join(found)
        return "password" if whole == "password" else ("aws" if whole == "awsaccesskeyid" else SCAN)
    if tail.endswith("token") and not any(tail.startswith(cursor) for cursor in (*_CURSORS, "publickey")):
        return "token"
    return SCAN


class NameRules:
    """What the names of one policy say, with a bounded memory of what was asked.

    Args:
        names: Further secret names; each holds also as the end of a longer one.
        trusted: Further trusted names, exactly as they are written; a trailing ``*`` stands for any rest.
        off: Kinds that are not looked for.
        ours: Whether the names are trusted that this package writes.

    Example:
        >>> rules = NameRules(names=["badge no"])
        >>> rules.of("newPassword"), rules.of("employee_badge_no"), rules.of("token_count")
        ('password', 'name', '')
    """

    __slots__ = ("_extra", "_innate", "_off", "_prefixes", "_trusted", "known")

    def __init__(
        self,
        names: Iterable[str] = (),
        trusted: Iterable[str] = (),
        off: frozenset[str] = frozenset(),
        *,
        ours: bool = True,
    ) -> None:
        self._extra = tuple(words(name) for name in names)
        mine = [name.lower() for name in trusted]
        self._trusted = _TRUSTED | (_OURS if ours else frozenset()) | {name for name in mine if not name.endswith("*")}
        self._innate = _TRUSTED_PREFIXES + (_OUR_PREFIXES if ours else ())
        self._prefixes = tuple(name[:-1] for name in mine if name.endswith("*"))
        self._off = off
        #: What some names say that were asked for.
        self.known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the kind of secret that `name` announces, or :data:`SCAN` or :data:`TRUST`."""
        known = self.known.get(name)
        if known is None:
            known = self._judge(name)
            if len(name) <= _LONGEST:
                if len(self.known) >= _CACHED:
                    self.known.clear()
                self.known[name] = known
        return known

    def _judge(self, name: str) -> str:
        lower = name.lower()
        if lower in self._trusted or (self._prefixes and lower.startswith(self._prefixes)):
            return TRUST
        if self._extra:
            found = words(name)
            if any(found[-len(extra) :] == extra for extra in self._extra if extra) and "name" not in self._off:
                return "name"
        kind = _judge(name) or (_by_section(name) if ":" in name or "__" in name else SCAN)
        if kind == SCAN and (lower.startswith(self._innate) or lower.endswith(_VERSIONS)):
            return TRUST
        return SCAN if kind in self._off else kind
