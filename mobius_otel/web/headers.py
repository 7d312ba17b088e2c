"""Security headers, set where the service sets none.

Values: OWASP Secure Headers Project (2026-07) and the OWASP REST Security cheat sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["PRESETS", "SecurityHeaders"]

_HSTS = ("strict-transport-security", "max-age=63072000; includeSubDomains")
_CSP = "content-security-policy"

#: The presets of the policy file, header by header.
PRESETS: dict[str, dict[str, str]] = {
    "api": {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        _CSP: "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "x-permitted-cross-domain-policies": "none",
    },
    "web": {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        _CSP: "default-src 'self'; form-action 'self'; base-uri 'self'; object-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "x-permitted-cross-domain-policies": "none",
        "x-dns-prefetch-control": "off",
        "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    },
    "off": {},
}
# An API's pages for people (interactive documentation) load scripts; the strict policy would blank them.
_CSP_OF_API_PAGES = "frame-ancestors 'none'"


class SecurityHeaders:
    """The headers of one preset with its overrides, worked out once.

    Args:
        preset: ``api``, ``web`` or ``off``.
        override: Values by name; an empty one leaves the header out.

    Example:
        >>> headers = SecurityHeaders("api", {"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": ""})
        >>> dict(headers.missing(["content-type"], https=False))["x-frame-options"]
        'SAMEORIGIN'
    """

    __slots__ = ("_api", "_pages", "_plain")

    def __init__(self, preset: str = "api", override: Mapping[str, str] | None = None) -> None:
        chosen = {name.lower(): value for name, value in (override or {}).items()}
        hsts = () if preset == "off" else (_HSTS,)
        merged = {**PRESETS[preset], **dict(hsts), **chosen}
        self._plain = tuple((name, value) for name, value in merged.items() if value)
        self._api = preset == "api" and _CSP not in chosen
        self._pages = tuple((n, _CSP_OF_API_PAGES if n == _CSP and self._api else v) for n, v in self._plain)

    def missing(self, present: Iterable[str], *, https: bool, html: bool = False) -> list[tuple[str, str]]:
        """Return the headers to add to an answer.

        Args:
            present: The lower-case names that the answer has already.
            https: Whether the client came by TLS; HSTS is for it alone (RFC 6797 section 7.2).
            html: Whether the answer is a page for people.
        """
        have = set(present)
        return [
            (name, value)
            for name, value in (self._pages if html else self._plain)
            if name not in have and (https or name != _HSTS[0])
        ]

    def __repr__(self) -> str:
        return f"SecurityHeaders({len(self._plain)} headers)"
