"""What under a telling name is no secret after all: nothing, a mask, a place to be filled in, a state, a message.

Whatever is not known here is a secret. A message is one whose every word is one of those that validation speaks in:
``must be at least 8 characters`` stays, ``correct horse battery staple`` goes.
"""

from __future__ import annotations

import re

from mobius_otel.telemetry.redaction.scopes import ACTIONS, RIGHTS

__all__ = ["is_message", "is_message_of_a_list", "is_statement_id", "is_version", "is_word", "keeps"]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PLACEHOLDER = re.compile(
    r"""(?:
      \[redacted:[a-z0-9_]{1,40}(?::(?:[0-9A-Z]{4}|[a-z0-9_]{1,16}\.[a-z2-7]{16}))?\]? | [*•xX.#\-_?]{0,64}
      | [\[<(]{0,2}(?:redacted|filtered|hidden|masked|protected|scrubbed|removed|omitted|secret)[\])>]{0,2}
      | \$\{\{[^}]{0,100}\}\} | \$\{[^}]{0,100}\} | \{\{[^}]{0,100}\}\} | \{\w{0,40}\} | \$[A-Z_]{3,40}
      | (?:%\(\w{1,40}\)s | %[sdr] | \$[0-9]{1,3} | :\w{1,40})
        (?:::(?:(?:var)?char | character[ ]varying | (?:ci)?text | (?:big|small)?int(?:eger)? | int[248] | float[48]?
        | numeric | decimal | bool(?:ean)? | real | double[ ]precision | date | interval | jsonb? | uuid | bytea | inet
        | time(?:stamp(?:tz)?)?(?:[ ]with(?:out)?[ ]time[ ]zone)?)(?:\([0-9, ]{1,9}\))?(?:\[\])?)?
      | @(?:p[0-9]{1,4} | __\w{1,60}_[0-9]{1,3}
        | \w{0,30}(?:password|passwd|pwd|pass|token|secret|key|hash|pin)[0-9]{0,2})
      | \w{1,40}\((?:\? | %s | \$[0-9]{1,3} | [:@]\w{1,40})\)?
      | <[\w \-]{1,40}(?:[|:][a-z\-]{1,30}){0,3}> | \(?(?:sensitive(?:[ ]value)?|known[ ]after[ ]apply)\)?
      | !(?:ref|sub|getatt|importvalue|vault|secret|env)(?:[ ][\w.:\-|]{0,80})?
      | (?:var|local|module|secrets)(?:\.[a-z_]{1,40}){1,4}
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_NOTHING = _set("true false none null nil undefined n/a na unset empty yes no on off required optional string missing")
_SCHEMES = _set(
    "basic bearer digest oauth oauth2 oidc saml jwt none token apikey api_key password mtls ldap kerberos ntlm"
    " negotiate hmac anonymous required optional ok approved declined denied granted pending enabled disabled failed"
    " success simple proxy scram-sha-256 scram-sha-1 scram-sha-512 cram-md5 xoauth2 gssapi spnego plain login md5 rbac"
    " abac webhook peer ident trust pam cert allowed forbidden"
)


#: The state of something that is not shown.
_STATES = _set(
    "enabled disabled invalid valid expired revoked incorrect wrong changed unchanged updated present absent blank ok"
)
#: All that messages of validation say.
_MESSAGE = _set("""
    this that the a an your it field value is are was were has have been be being must should may can cannot can't could
    not no isn't doesn't don't didn't do does did mustn't shouldn't need needs to of in on or and for from with as than
    blank null empty required missing invalid valid incorrect wrong unknown expired revoked unset set changed updated
    found provided given used already taken available allowed accepted supported unsupported denied failed entirely
    integer float boolean list dictionary object array decimal date datetime able unable parse shorter longer
    too short long common weak simple similar easy minimum maximum min max least most at character characters char chars
    digit digits letter letters uppercase lowercase upper lower case symbol symbols special number numbers numeric one
    more less fewer only between within exactly contain contains include includes containing match matches matching same
    different enter choose use please try again ensure check string text data input type format length confirmation
    username email user name account reset old new current previous password passwords passphrase token tokens secret
    key keys code codes pin api access refresh session csrf signature credentials
""")
_VERB = _set("""
    is are was has have been be must should may can cannot can't not isn't doesn't don't didn't mustn't shouldn't needs
    enter choose use try ensure check required missing too minimum maximum at match
""")
_SHORT_MESSAGES = frozenset({"unknown field", "unknown field."})
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?")
#: Words, and at most two numbers that no code has as few digits as.
_SAYS = re.compile(r"(?:[A-Za-z' ,.;:!()\"`/\-]++|(?<![0-9])(?:[0-9]{1,2}|100|128|255|256)(?![0-9])){1,5}")
#: Where something is kept: a file under a directory of a system, an entry of a vault.
_PLACE = re.compile(
    r"(?:file://)?(?:/(?:etc|run|var|opt|usr|home|srv|mnt|tmp|app|secrets|data|root|vault|workspace|Users)"
    r"(?:/[\w.\-]{1,64}){1,12}"
    r"|/(?:[\w.\-]{1,64}/){0,12}[\w.\-]{1,64}\.(?:json|pem|key|crt|p12|pfx|jks|txt|env|ya?ml|toml|ini|conf)"
    r"|[A-Za-z]:\\[\w .\\\-]{1,200}\.[a-z0-9]{2,5})",
    re.ASCII,
)
#: The name of an entry in AWS Secrets Manager.
_ARN = re.compile(
    r"arn:aws[a-z\-]{0,10}:secretsmanager:[a-z0-9\-]{0,32}:[0-9]{0,12}:secret:[\w/+=.!\-]{1,512}", re.ASCII
)
#: What other programs look up: 1Password, Vault, AWS and Google Secret Manager, Azure Key Vault, vals.
_REFERENCE = re.compile(
    r"(?:op|sm|ssm|awssm|gcpsm|akv|doppler|infisical|bws|vault|ref\+[a-z0-9]{2,20}):/{2,3}[\w./#\-]{3,256}"
    r"|vault:[\w.\-]{1,64}(?:/[\w.\-]{1,64}){1,8}#[\w.\-]{1,64}"
    r"|projects/[\w\-]{1,64}/secrets/[\w\-]{1,255}(?:/versions/(?:latest|[0-9]{1,6}))?",
    re.ASCII,
)
#: Versions of a package that may be taken: {"js-tokens": "^3.0.0 || ^4.0.0"}.
_RANGES = frozenset("^~><=")
_VERSION = r"(?:\^|~>?|[><]=?|==?) ?v?[0-9]{1,4}(?:\.(?:[0-9]{1,5}|[x*])){1,3}(?:-[a-z]{1,10}(?:\.?[0-9]{1,3})?)?"
_VERSIONS = re.compile(rf"{_VERSION}(?:(?: \|\| ?| ?, ?| ){_VERSION}){{0,4}}")
_RANGES_AND_DIGITS = _RANGES | frozenset("0123456789")
_SIMPLE_VERSION = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,5}){1,3}(?:-[a-z]{1,10}(?:\.?[0-9]{1,3})?)?")
_PLAIN_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,4}\.[0-9]{1,5}(?:-[a-z]{1,10}(?:\.[0-9]{1,3})?)?")
_HASHES = _set("bcrypt scrypt argon2 argon2i argon2id pbkdf2")
_KEY_TYPES = _set("rsa ec ecdsa dsa ed25519 kms")
_RIGHTS_ON = _set("secret api_key private_key")
_FETCH = _set("include omit same-origin")
_NOT_A_PIN = re.compile(r"(?:gpio|pin|[ad])[0-9]{1,2}", re.IGNORECASE)
#: A time; an id of an account in Windows, of a message or a call at Twilio.
_NO_SESSION = re.compile(
    r"S-1-[0-9]{1,2}(?:-[0-9]{1,10}){1,14}|(?!AC|SK)[A-Z]{2}[0-9a-f]{32}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9.]{2,12})?(?:Z|[+\-][0-9:]{4,6})?)?"
    r"(?:[ ][a-z ]{1,40})?"
)
#: Of a function: "def f(x)", "foo(bar: int) -> str".
_FUNCTION = re.compile(
    r"(?:(?:async )?(?:def|fn|func|function) )?[A-Za-z_][\w.]{0,80}\([^\"'+/]{0,160}(?:\)[\w :>,.\[\]\-]{0,80})?"
)
_STATEMENT_ID = re.compile(r"(?:[A-Z][A-Z0-9]{0,4}[a-z]{2,}+[0-9]{0,2}){1,20}[A-Z]{0,5}", re.ASCII)
#: Tokens of a text that are no key in any house.
_SMALL_WORDS = _set(
    "the a an of to in and is it for on with as at by be or that this from not are was but he she we you"
)
#: Longest token of a list of words; a key has more letters, or not letters alone.
_LONGEST_WORD = 8


def is_statement_id(name: str, value: str) -> bool:
    """Return whether a value is the id of a statement in a policy of AWS, in words: ``"Sid": "AllowListing"``."""
    return name == "Sid" and len(value) <= 100 and _STATEMENT_ID.fullmatch(value) is not None


def is_version(value: str) -> bool:
    """Return whether a value is the version of a package: ``0.5.0``, ``^1.2``."""
    return (
        value[:1] in _RANGES_AND_DIGITS and (_SIMPLE_VERSION.fullmatch(value) or _VERSIONS.fullmatch(value)) is not None
    )


def is_word(value: str) -> bool:
    """Return whether a token of a list of tokens is a piece of a text: ``["the", "cat"]``."""
    return len(value) <= _LONGEST_WORD and value.isalpha() and value.islower()


def is_message_of_a_list(value: str) -> bool:
    """Return whether an item of a list under a password's name is a sentence, as forms answer; no digit in it."""
    return value[-1:] == "." and value.count(" ") >= 2 and len(value) <= 200 and not any(map(str.isdigit, value))


def _is_place(value: str) -> bool:
    """Return whether a value says where a secret is kept, or which version of what is called after one."""
    if value[:4] == "arn:":
        return _ARN.fullmatch(value) is not None
    if value[:1] in _RANGES and _VERSIONS.fullmatch(value):
        return True
    return ("/" in value or "\\" in value) and (_PLACE.fullmatch(value) or _REFERENCE.fullmatch(value)) is not None


def is_message(value: str) -> bool:
    """Return whether every word of a value is one of those that validation speaks in."""
    if " " not in value or not _SAYS.fullmatch(value):
        return False
    if value.lower() in _SHORT_MESSAGES:
        return True
    said = set(_WORDS.findall(value.lower()))
    return said <= _MESSAGE and not said.isdisjoint(_VERB)


def keeps(kind: str, value: str) -> bool:
    """Return whether a value under a secret name is no secret after all: empty, a mask, a placeholder, a message.

    Example:
        >>> keeps("password", "hunter2"), keeps("password", "****"), keeps("password", "${DB_PASSWORD}")
        (False, True, True)
        >>> keeps("password", "must not be blank"), keeps("credential", "/etc/gcp/key.json")
        (True, True)
    """
    # No word, no message and nothing that stands for a value is of letters and digits alone, with a digit in it.
    if len(value) <= 160 and (value.isalpha() or not value.isalnum()):
        stripped = value.strip()
        lower = stripped.lower()
        if lower in _NOTHING or _PLACEHOLDER.fullmatch(stripped):
            return True
        if kind != "url_credential" and (lower in _STATES or is_message(stripped) or _is_place(stripped)):
            return True
    if kind == "authorization":
        return value.strip().lower() in _SCHEMES
    if kind == "card":
        return sum(map(str.isdigit, value[:64])) < 8
    if kind == "phone":
        return sum(map(str.isdigit, value[:64])) < 7 or len(value) > 40
    if kind == "session":
        return (len(value) < 8 and not any(map(str.isdigit, value))) or _NO_SESSION.fullmatch(value) is not None
    if kind == "token":
        return value in _SMALL_WORDS or value in ACTIONS or _PLAIN_VERSION.fullmatch(value) is not None
    if kind in _RIGHTS_ON:
        return value in RIGHTS or (kind == "private_key" and value.lower() in _KEY_TYPES)
    if kind == "password":
        return value in _HASHES
    if kind == "pin":
        return _NOT_A_PIN.fullmatch(value) is not None
    if kind == "cvv":
        return len(value) < 3 and not value.isdigit()  # as a number it loses its zeros
    if kind == "credential":
        return value in _FETCH
    return kind == "signature" and (_FUNCTION.fullmatch(value) is not None or value in {"v0", "v1", "v2", "v3", "v4"})
