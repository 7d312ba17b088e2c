"""What the templates of both parts draw from; the words themselves come from the part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from .lookalikes import LOOKALIKES
from .model import Hidden, Loose, Text, Whole, fill, text_of
from .values import b64, make

__all__ = ["EVIDENT", "PERSONAL", "SHORT", "Family", "Kit", "Vocabulary", "encoded", "variable"]

#: Kinds whose values tell by themselves what they are.
EVIDENT = (
    "mobius_key",
    "jwt",
    "private_key",
    "private_key_line",
    "aws_access_key_id",
    "gcp_api_key",
    "github",
    "gitlab",
    "slack",
    "stripe",
    "openai",
    "anthropic",
    "huggingface",
    "npm",
    "pypi",
    "twilio_key",
    "sendgrid",
    "telegram",
    "digitalocean",
    "shopify",
    "databricks",
    "vault",
    "discord",
    "card",
    "iban",
    "ssn",
)
#: Personal data that stands alone.
PERSONAL = ("email", "phone", "ipv4", "ipv6")
#: Evident kinds that fit into a line.
SHORT = tuple(kind for kind in EVIDENT if kind not in {"private_key", "private_key_line"})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of one part.

    Args:
        names: Telling names, by kind.
        neutral: Names that tell nothing.
        sentences: Free text around a secret (field ``secret``), by kind; ``*`` for any other.
        clean: Texts without secrets that look as if they had some.
        users: Names of users.
        hosts: Names of hosts.
        services: Names of services.
        look: Which of the two lists of names a look-alike stands under.
    """

    names: dict[str, Sequence[str]]
    neutral: Sequence[str]
    sentences: dict[str, Sequence[str]]
    clean: Sequence[str]
    users: Sequence[str]
    hosts: Sequence[str]
    services: Sequence[str]
    look: int


def variable(name: str) -> str:
    """Return a name as environment variables are written."""
    return re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).upper()


def encoded(text: Text | Hidden | str) -> Text:
    """Return the text as it stands in a URL or a form."""
    return text_of(text).map(lambda part: quote(part, safe=""))


@dataclass(slots=True)
class Kit:
    """Draws names, secrets and clean values.

    Args:
        rng: Where chance comes from.
        words: The words of the part.
    """

    rng: Random
    words: Vocabulary
    _pool: dict[str, list[str]] = field(default_factory=dict)

    def of(self, choices: Sequence[Any]) -> Any:
        """Return one of them."""
        return self.rng.choice(choices)

    def chance(self, share: float) -> bool:
        """Return True in that share of calls."""
        return self.rng.random() < share

    def turn(self, pool: str, choices: Sequence[str]) -> str:
        """Return the choices in a shuffled order, each as often as the others."""
        left = self._pool.setdefault(pool, [])
        if not left:
            left.extend(choices)
            self.rng.shuffle(left)
        return left.pop()

    def user(self) -> str:
        """Return the name of a user."""
        return str(self.of(self.words.users))

    def host(self) -> str:
        """Return the name of a host."""
        return str(self.of(self.words.hosts))

    def service(self) -> str:
        """Return the name of a service."""
        return str(self.of(self.words.services))

    def hidden(self, kind: str, carrier: str) -> Hidden:
        """Return a secret of a kind."""
        loose = kind == "password" and carrier == "name" and self.chance(0.2)
        return Hidden(kind, carrier, make(self.rng, "passphrase" if loose else kind))

    def number(self, kind: str, carrier: str) -> Whole:
        """Return a secret of digits as a number."""
        digits = "".join(filter(str.isdigit, make(self.rng, kind)))
        return Whole(kind, carrier, int(digits.lstrip("0") or "7"))

    def telling(self, carrier: str, only: Sequence[str] | None = None, *, line: bool = False) -> tuple[str, Hidden]:
        """Return a telling name and its secret; `line`: one without blanks, quotes or line ends."""
        while True:
            kinds = only or tuple(self.words.names)
            kind = self.turn(f"telling {carrier} {kinds}", kinds)
            secret = self.hidden(kind, carrier)
            if not line or not set(secret.text) & set(" \n\"'\\&;"):
                return str(self.turn(f"name {kind}", self.words.names[kind])), secret

    def evident(self, carrier: str, only: Sequence[str] = EVIDENT) -> Hidden:
        """Return a secret that tells by itself what it is."""
        return self.hidden(self.turn(f"evident {carrier} {only}", only), carrier)

    def neutral(self) -> str:
        """Return a name that tells nothing."""
        return str(self.of(self.words.neutral))

    def sentence(self, only: Sequence[str] = (*SHORT, *SHORT, *PERSONAL, *PERSONAL)) -> Text:
        """Return free text with a secret in it."""
        secret = self.evident("embedded", only)
        templates = self.words.sentences.get(secret.kind) or self.words.sentences["*"]
        return self.filled(str(self.of(templates)), secret=secret)

    def filled(self, template: str, **fields: Text | Hidden | Loose | str | int) -> Text:
        """Return a template with its fields, and the part's words for `user`, `host`, `service` and `n`."""
        return fill(
            template,
            user=self.user(),
            host=self.host(),
            service=self.service(),
            n=self.rng.randrange(2, 9000),
            **fields,
        )

    def clean(self) -> tuple[str, Any]:
        """Return the name and the value of a look-alike."""
        look = LOOKALIKES[self.turn("look-alike", tuple(LOOKALIKES))]
        return str(self.of(look.names[self.words.look])), look.make(self.rng)

    def cleans(self, number: int) -> dict[str, Any]:
        """Return a few look-alikes under their names."""
        return dict(self.clean() for _ in range(number))

    def beside(self) -> dict[str, Any]:
        """Return no look-alike, one or two, to stand beside a secret."""
        return self.cleans(self.of((0, 0, 0, 1, 1)))

    def clean_text(self) -> str:
        """Return a text without a secret."""
        return str(self.filled(str(self.turn("clean text", self.words.clean))))

    def basic(self, carrier: str) -> Text:
        """Return the value of an Authorization header with Basic."""
        return Text((Loose("Basic "), Hidden("basic_auth", carrier, make(self.rng, "basic_auth"))))

    def bearer(self, carrier: str) -> Text:
        """Return the value of an Authorization header with Bearer."""
        kind = self.of(("jwt", "token", "mobius_key", "token", "jwt", "github"))
        return Text((Loose("Bearer "), self.hidden(kind, carrier)))

    def digest(self, carrier: str) -> Text:
        """Return the value of an Authorization header with Digest."""
        nonce = b64(self.rng.randbytes(12))
        front = f'Digest username="{self.user()}", realm="api", nonce="{nonce}", uri="/v1", response="'
        return Text((Loose(front), self.hidden("digest_auth", carrier), Loose('"')))

    def authorization(self, carrier: str) -> Text:
        """Return the value of an Authorization header."""
        return [self.basic, self.bearer, self.bearer, self.digest][self.rng.randrange(4)](carrier)

    def cookie(self, carrier: str, names: Sequence[str]) -> Text:
        """Return the value of a Cookie header; what is beside the session may go with it."""
        beside = self.of(("theme=dark; ", "lang=de; ", "", "_ga=GA1.2.1; "))
        return Text((Loose(beside + self.of(names) + "="), self.hidden("cookie", carrier), Loose("; tz=UTC")))

    def set_cookie(self, carrier: str, names: Sequence[str]) -> Text:
        """Return the value of a Set-Cookie header."""
        name = self.of(names) + "="
        return Text((Loose(name), self.hidden("cookie", carrier), Loose("; Path=/; HttpOnly; SameSite=Lax")))

    def dsn(self, carrier: str, schemes: Sequence[str]) -> Text:
        """Return a connection URL with a password in it; its user may go with the password."""
        password = encoded(self.hidden("dsn_password", carrier))
        user = Loose(self.of(("app", "admin", "svc_orders", "root", "reader")))
        return fill(self.of(schemes), user=user, password=password, host=self.host(), db=self.of(("shop", "app", "0")))


#: What makes the structure of one record.
Family = Callable[[Kit], Any]
