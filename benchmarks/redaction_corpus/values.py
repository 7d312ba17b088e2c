"""Secret values, by kind: drawn from alphabets, in the shapes that the vendors document."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import zlib
from collections.abc import Callable
from random import Random

__all__ = ["MAKERS", "b64", "card", "digits", "hexa", "make", "of"]

ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
B64 = ALNUM + "+/"
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
BASE32 = string.ascii_uppercase + "234567"


def of(rng: Random, alphabet: str, length: int) -> str:
    """Return `length` letters of an alphabet."""
    return "".join(rng.choices(alphabet, k=length))


def hexa(rng: Random, length: int) -> str:
    """Return lower-case hexadecimal digits."""
    return of(rng, "0123456789abcdef", length)


def digits(rng: Random, length: int) -> str:
    """Return decimal digits, the first no zero."""
    return rng.choice("123456789") + of(rng, string.digits, length - 1)


def b64(data: bytes | str, *, urlsafe: bool = False) -> str:
    """Return base64; the form for URLs goes without padding."""
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=") if urlsafe else base64.b64encode(raw).decode()


_WORDS = [
    "dragon",
    "Sunshine",
    "winter",
    "Falcon",
    "coffee",
    "Purple",
    "rocket",
    "Banana",
    "shadow",
    "Monkey",
    "tiger",
    "Horse",
    "battery",
    "Staple",
    "correct",
    "Michigan",
    "princess",
    "Arsenal",
    "Zurich",
    "letmein",
    "qwerty",
]


def password(rng: Random) -> str:
    """Return what people and generators choose; without blanks, quotes and what ends a value in a URL."""
    shape = rng.randrange(6)
    word, other = rng.choice(_WORDS), rng.choice(_WORDS)
    if shape == 0:
        return f"{word}{rng.randrange(10, 9999)}{rng.choice('!$*.')}"
    if shape == 1:
        return f"{word}-{other}-{rng.choice(_WORDS)}-{rng.randrange(9)}"
    if shape == 2:
        return of(rng, ALNUM + "!*^~.-_", rng.randrange(12, 21))
    if shape == 3:
        swaps = str.maketrans({"a": "4", "e": "3", "o": "0", "i": "1"})
        return word.translate(swaps) + rng.choice("!*") + other.capitalize() + digits(rng, 2)
    if shape == 4:
        return of(rng, ALNUM, rng.randrange(8, 16))
    return f"{word}{other}"


def passphrase(rng: Random) -> str:
    """Return a password with blanks or letters of no English word."""
    words = " ".join(rng.sample(_WORDS, 3))
    return rng.choice(
        (words, f"{words} {rng.randrange(99)}!", f"pässwort{rng.randrange(99)}ß", f"密码{rng.choice(_WORDS)}88")
    )


def token(rng: Random) -> str:
    """Return an opaque token of no vendor."""
    shape = rng.randrange(5)
    if shape == 0:
        return hexa(rng, rng.choice((32, 40, 64)))
    if shape == 1:
        return of(rng, URLSAFE, rng.choice((22, 32, 43)))
    if shape == 2:
        h = hexa(rng, 32)
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
    if shape == 3:
        return of(rng, ALNUM, rng.randrange(20, 49))
    return b64(rng.randbytes(24))


def api_key(rng: Random) -> str:
    """Return a key of some small service."""
    return rng.choice(("", "", "key-", "ak_", "live_")) + of(rng, ALNUM, rng.randrange(24, 41))


def session(rng: Random) -> str:
    """Return the id of a session as servers make it."""
    return rng.choice((hexa(rng, 32), of(rng, LOWER, 26), of(rng, UPPER, 32)))


def mobius_key(rng: Random) -> str:
    """Return a key as `mobius_otel.security.api_keys` issues it, but from the generator's numbers."""
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    body = f"{rng.choice(('mob', 'mob', 'shop', 'acme'))}_{rng.choice(('live', 'test', 'dev'))}_{of(rng, alphabet, 43)}"
    number, check = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = alphabet[digit] + check
    return body + check


def jwt(rng: Random) -> str:
    """Return a signed JSON Web Token."""
    head = {"alg": rng.choice(("HS256", "RS256", "ES256")), "typ": "JWT"}
    if rng.random() < 0.5:
        head["kid"] = hexa(rng, 8)
    claims = {"sub": digits(rng, 6), "iat": 1_700_000_000 + rng.randrange(9_000_000), "scope": "read write"}
    parts = [b64(json.dumps(part, separators=(",", ":")), urlsafe=True) for part in (head, claims)]
    return ".".join([*parts, of(rng, URLSAFE, 43 if head["alg"] == "HS256" else 86)])


def pem(rng: Random) -> str:
    """Return a private key in PEM: whole, or cut off as by a limit of a log."""
    label = rng.choice(
        ("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    )
    body = "\n".join(of(rng, B64, 64) for _ in range(rng.randrange(3, 9)))
    if rng.random() < 0.3:
        return f"-----BEGIN {label}-----\n{body}"
    return f"-----BEGIN {label}-----\n{body}\n{of(rng, B64, 22)}==\n-----END {label}-----"


def pem_line(rng: Random) -> str:
    """Return a private key on one line, as it stands in an environment variable."""
    return pem(rng).replace("\n", "\\n")


def aws_id(rng: Random) -> str:
    """Return an AWS access key id."""
    return rng.choice(("AKIA", "AKIA", "ASIA")) + of(rng, BASE32, 16)


def azure_storage(rng: Random) -> str:
    """Return the account key of an Azure storage connection string."""
    return b64(rng.randbytes(64))


def github(rng: Random) -> str:
    """Return a GitHub token, classic or fine-grained."""
    if rng.random() < 0.3:
        return "github_pat_" + of(rng, ALNUM, 22) + "_" + of(rng, ALNUM, 59)
    return rng.choice(("ghp_", "gho_", "ghs_", "ghu_", "ghr_")) + of(rng, ALNUM, 36)


def slack(rng: Random) -> str:
    """Return a Slack token."""
    if rng.random() < 0.3:
        return f"xapp-1-A{of(rng, UPPER, 10)}-{digits(rng, 13)}-{hexa(rng, 64)}"
    kind = rng.choice(("xoxb", "xoxb", "xoxp"))
    return f"{kind}-{digits(rng, 12)}-{digits(rng, 13)}-{of(rng, ALNUM, 24)}"


def slack_webhook(rng: Random) -> str:
    """Return what is secret of a Slack webhook: its path."""
    return f"T{of(rng, UPPER, 8)}/B{of(rng, UPPER, 10)}/{of(rng, ALNUM, 24)}"


def stripe(rng: Random) -> str:
    """Return a Stripe secret or restricted key, or the secret of a webhook."""
    kind = rng.choice(("sk_live_", "sk_test_", "rk_live_", "whsec_"))
    return kind + of(rng, ALNUM, 32 if kind == "whsec_" else rng.choice((24, 99)))


def openai(rng: Random) -> str:
    """Return an OpenAI key."""
    if rng.random() < 0.3:
        return "sk-" + of(rng, ALNUM, 20) + "T3Blbk" + "FJ" + of(rng, ALNUM, 20)
    return rng.choice(("sk-proj-", "sk-svcacct-")) + of(rng, URLSAFE, 74) + "T3Blbk" + "FJ" + of(rng, URLSAFE, 74)


def sendgrid(rng: Random) -> str:
    """Return a SendGrid key."""
    return f"SG.{of(rng, URLSAFE, 22)}.{of(rng, URLSAFE, 43)}"


def telegram(rng: Random) -> str:
    """Return the token of a Telegram bot."""
    return f"{digits(rng, 10)}:AA{of(rng, URLSAFE, 33)}"


def discord(rng: Random) -> str:
    """Return the token of a Discord bot."""
    return f"{rng.choice('MN')}{b64(digits(rng, 18), urlsafe=True)[1:]}.{of(rng, ALNUM, 6)}.{of(rng, URLSAFE, 38)}"


def databricks(rng: Random) -> str:
    """Return a Databricks personal access token."""
    return "dapi" + hexa(rng, 32) + rng.choice(("", "-2"))


def luhn_digit(body: str) -> str:
    """Return the digit that makes the number hold by Luhn's rule."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


#: The beginning of a number and its length, by brand; the last is rare.
_BRANDS = [
    ("4", 16),
    ("4", 16),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("65", 16),
    ("3528", 16),
    ("3589", 16),
    ("36", 14),
    ("3095", 14),
    ("6212", 16),
    ("5018", 16),
    ("4", 13),
]


def card_number(rng: Random) -> str:
    """Return the digits of a card of some brand, holding by Luhn's rule."""
    front, length = rng.choice(_BRANDS[:-1] if rng.random() < 0.97 else _BRANDS)
    body = front + of(rng, string.digits, length - len(front) - 1)
    return body + luhn_digit(body)


def card(rng: Random) -> str:
    """Return a card number, often in groups."""
    number = card_number(rng)
    between = rng.choice(("", " ", "-", " "))
    groups = [4, 6, len(number) - 10] if len(number) in {14, 15} else [4] * (len(number) // 4) + [len(number) % 4]
    out, at = [], 0
    for size in groups:
        out.append(number[at : at + size])
        at += size
    return between.join(filter(None, out))


_IBANS = {
    "DE": "d18",
    "FR": "d10u11d2",
    "GB": "U4d14",
    "NL": "U4d10",
    "ES": "d20",
    "IT": "U1d10u12",
    "CH": "d5u12",
    "AT": "d16",
    "BE": "d12",
    "PL": "d24",
    "SE": "d20",
    "NO": "d11",
    "PT": "d21",
    "IE": "U4d14",
    "FI": "d14",
}


def iban(rng: Random) -> str:
    """Return an account number of some country that holds by its checksum, often in groups of four."""
    country = rng.choice(list(_IBANS))
    shape, body, at = _IBANS[country], "", 0
    while at < len(shape):
        end = at + 1
        while end < len(shape) and shape[end].isdigit():
            end += 1
        alphabet = {"d": string.digits, "u": UPPER, "U": string.ascii_uppercase}[shape[at]]
        body += of(rng, alphabet, int(shape[at + 1 : end]))
        at = end
    check = 98 - int("".join(str(int(each, 36)) for each in f"{body}{country}00")) % 97
    plain = f"{country}{check:02d}{body}"
    return " ".join(plain[i : i + 4] for i in range(0, len(plain), 4)) if rng.random() < 0.5 else plain


def ssn(rng: Random) -> str:
    """Return a social security number of the USA."""
    area = rng.choice((rng.randrange(1, 666), rng.randrange(667, 900)))
    return f"{area:03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


_FIRST = ["anna", "jose.maria", "li", "olu", "fatima", "tom", "ines", "raj", "yuki", "per-erik", "chloe", "m", "dmitri"]
_LAST = ["schmidt", "garcia", "wang", "okafor", "haddad", "obrien", "rossi", "patel", "tanaka", "lund", "dubois"]
_MAIL = ["gmail.com", "mail.example.org", "posteo.de", "corp.acme.io", "yahoo.co.uk", "uni-bonn.de", "proton.me"]


def email(rng: Random) -> str:
    """Return an e-mail address."""
    name = rng.choice(_FIRST) + rng.choice((".", "_", "")) + rng.choice(_LAST)
    return f"{name}{rng.choice(('', '', '+news', str(rng.randrange(99))))}@{rng.choice(_MAIL)}"


_PHONES = [
    "+1415555dddd",
    "+1 (2Nd) N55-dddd",
    "(2Nd) N55-dddd",
    "+44 20 7dd6 0ddd",
    "+447dddddddd9",
    "07dd0 ddd ddd",
    "+49 30 Ndddddd",
    "+4915dNdddddddd",
    "0170 Ndddddd",
    "+33 6 dd dd dd dd",
    "06 dd dd dd dd",
    "+34 6dd ddd ddd",
    "+81 90-dddd-dddd",
    "+91 98ddd ddddd",
    "+55 11 9dddd-dddd",
    "+41 79 ddd dd dd",
    "1-800-Ndd-dddd",
    "+61 4dd ddd ddd",
    "2Nd-N55-dddd",
    "+39 3dd ddddddd",
]


def phone(rng: Random) -> str:
    """Return a phone number as people of some country write it."""
    shape = rng.choice(_PHONES)
    return "".join(str(rng.randrange(10)) if c == "d" else str(rng.randrange(2, 10)) if c == "N" else c for c in shape)


def ipv4(rng: Random) -> str:
    """Return a public or private IPv4 address."""
    first, second = rng.choice(((10, rng.randrange(256)), (192, 168), (rng.randrange(23, 224), rng.randrange(256))))
    return f"{first}.{second}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def ipv6(rng: Random) -> str:
    """Return an IPv6 address, often shortened."""
    front = rng.choice(("2001:db8", "2a02:8109", "2607:f8b0", "fd12:3456"))
    if rng.random() < 0.5:
        return f"{front}::{hexa(rng, 4)}:{digits(rng, 2)}"
    return ":".join([front, *(f"{rng.randrange(4096, 65536):x}" for _ in range(6))])


def totp_seed(rng: Random) -> str:
    """Return the seed of one-time passwords."""
    return of(rng, BASE32, rng.choice((16, 32)))


def digest_response(rng: Random) -> str:
    """Return the response of HTTP Digest."""
    return hashlib.md5(rng.randbytes(8), usedforsecurity=False).hexdigest()


#: One maker for each kind.
MAKERS: dict[str, Callable[[Random], str]] = {
    "password": password,
    "passphrase": passphrase,
    "client_secret": token,
    "token": token,
    "api_key": api_key,
    "session": session,
    "mobius_key": mobius_key,
    "jwt": jwt,
    "private_key": pem,
    "private_key_line": pem_line,
    "aws_access_key_id": aws_id,
    "aws_secret_key": lambda rng: of(rng, B64, 40),
    "gcp_api_key": lambda rng: "AIza" + "Sy" + of(rng, URLSAFE, 33),
    "azure_storage_key": azure_storage,
    "github": github,
    "gitlab": lambda rng: "glpat-" + of(rng, URLSAFE, 20),
    "slack": slack,
    "slack_webhook": slack_webhook,
    "discord_webhook": lambda rng: of(rng, URLSAFE, 68),
    "stripe": stripe,
    "openai": openai,
    "anthropic": lambda rng: "sk-ant-" + "api03-" + of(rng, URLSAFE, 93) + "AA",
    "huggingface": lambda rng: "hf_" + of(rng, string.ascii_letters, 34),
    "npm": lambda rng: "npm_" + of(rng, ALNUM, 36),
    "pypi": lambda rng: "pypi-" + "AgEIcHlwaS5vcmc" + of(rng, URLSAFE, rng.randrange(140, 170)),
    "twilio_key": lambda rng: "SK" + hexa(rng, 32),
    "twilio_auth_token": lambda rng: hexa(rng, 32),
    "sendgrid": sendgrid,
    "telegram": telegram,
    "digitalocean": lambda rng: rng.choice(("dop", "doo", "dor")) + "_v1_" + hexa(rng, 64),
    "shopify": lambda rng: rng.choice(("shpat_", "shpss_", "shpca_")) + hexa(rng, 32),
    "databricks": databricks,
    "vault": lambda rng: "hvs." + of(rng, URLSAFE, rng.choice((24, 95))),
    "discord": discord,
    "card": card,
    "cvv": lambda rng: of(rng, string.digits, rng.choice((3, 3, 4))),
    "pin": lambda rng: of(rng, string.digits, rng.choice((4, 4, 6))),
    "iban": iban,
    "ssn": ssn,
    "email": email,
    "phone": phone,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "basic_auth": lambda rng: b64(f"{rng.choice(_FIRST)}:{password(rng)}"),
    "digest_auth": digest_response,
    "cookie": session,
    "dsn_password": password,
    "otp_code": lambda rng: of(rng, string.digits, 6),
    "totp_seed": totp_seed,
    "signature": lambda rng: hexa(rng, 64),
    "sas_signature": lambda rng: b64(rng.randbytes(32)),
}


def make(rng: Random, kind: str) -> str:
    """Return a value of a kind."""
    return MAKERS[kind](rng)
