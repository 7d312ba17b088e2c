"""What a text may be suspected of, as bits."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ADDRESS", "ANYTHING", "AT", "CARD", "COLOUR", "DOCUMENT", "ESCAPED", "FLAG", "HEAD", "IBAN", "INNER", "JWT", "OWN",
    "PAIR", "PEM", "PHONE", "SENTENCE", "SIBLING", "SSN", "TOKEN",
]  # fmt: skip

PEM: Final = 1
DOCUMENT: Final = 2
AT: Final = 4
PAIR: Final = 8
FLAG: Final = 16
SENTENCE: Final = 32
TOKEN: Final = 64
CARD: Final = 128
SSN: Final = 256
PHONE: Final = 512
IBAN: Final = 1024
ADDRESS: Final = 2048
JWT: Final = 4096
OWN: Final = 8192
INNER: Final = 16384
SIBLING: Final = 32768
ESCAPED: Final = 65536
COLOUR: Final = 131072
HEAD: Final = 262144
ANYTHING: Final = 524287
