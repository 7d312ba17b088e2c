"""The peers, each behind a small adapter and with its own defaults; one that cannot run says why.

Those that know texts alone are given every leaf; detect-secrets, which scans source, is given ``key = "value"``.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

from .score import Redact

__all__ = ["PEERS"]

#: What loads a peer: what redacts, or None and the reason.
Load = Callable[[], tuple[Redact | None, str]]


def each_text(change: Callable[[str, str], str]) -> Redact:
    """Return what changes every text of a structure, knowing the name that it stands under."""

    def walk(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, str(key)) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [walk(inner, name) for inner in value]
        return change(name, value) if isinstance(value, str) else value

    return walk


def logfire() -> Redact:
    """Return logfire's scrubber, as it is set up by `logfire.configure()`."""
    scrubbing = importlib.import_module("logfire._internal.scrubbing")
    scrubber = scrubbing.Scrubber([])
    return lambda value: scrubber.scrub_value(("attributes",), value)[0]


def sentry() -> Redact:
    """Return sentry's event scrubber, which knows names alone; recursive, as its documentation has for such data."""
    scrubber = importlib.import_module("sentry_sdk.scrubber").EventScrubber(recursive=True)
    annotated = importlib.import_module("sentry_sdk._types").AnnotatedValue

    def plain(value: Any) -> Any:
        if isinstance(value, annotated):
            return "[Filtered]"
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    def redact(value: Any) -> Any:
        event = copy.deepcopy(value)
        scrubber.scrub_dict(event)
        return plain(event)

    return redact


def loggingredactor() -> Redact:
    """Return the filter of loggingredactor with its own patterns and names of personal data."""
    module = importlib.import_module("loggingredactor")
    made = (
        module.CommonPIIRedactingFilter() if hasattr(module, "CommonPIIRedactingFilter") else module.RedactingFilter()
    )
    return made.redact  # type: ignore[no-any-return]


def scrubadub() -> Redact:
    """Return scrubadub with its default detectors."""
    scrubber = importlib.import_module("scrubadub").Scrubber()
    return each_text(lambda _, text: str(scrubber.clean(text)))


def detect_secrets() -> Redact:
    """Return detect-secrets with its default plugins; what it finds is taken out."""
    scan = importlib.import_module("detect_secrets.core.scan")
    settings = importlib.import_module("detect_secrets.settings")
    initialize = importlib.import_module("detect_secrets.core.plugins.initialize")
    entropy = importlib.import_module("detect_secrets.plugins.high_entropy_strings").HighEntropyStringsPlugin

    def plugins() -> dict[str, Any]:
        with settings.default_settings():
            names = settings.get_settings().plugins
            return {plugin.secret_type: plugin for plugin in map(initialize.from_plugin_classname, names)}

    known = plugins()

    def found(line: str) -> list[str]:
        out = []
        for secret in scan.scan_line(line):
            plugin = known.get(secret.type)
            value = secret.secret_value
            if isinstance(plugin, entropy) and plugin.calculate_shannon_entropy(value) <= plugin.entropy_limit:
                continue  # a scan of a single line leaves the limit to its reader
            out.append(value)
        return sorted(filter(None, out), key=len, reverse=True)

    def change(name: str, text: str) -> str:
        for number, line in enumerate(text.split("\n")):
            for secret in found(f'{name} = "{line}"' if number == 0 else line):
                text = text.replace(secret, "[secret]")
        return text

    def redact(value: Any) -> Any:
        with settings.default_settings():
            return walk(value)

    walk = each_text(change)
    return redact


def presidio() -> Redact:
    """Return presidio's analyzer for English; it needs a language model that is installed apart."""
    spacy = importlib.import_module("spacy")
    module = importlib.import_module("presidio_analyzer")
    if not spacy.util.is_package("en_core_web_lg"):
        message = "its spaCy model en_core_web_lg is not installed"
        raise ImportError(message)
    analyzer = module.AnalyzerEngine()

    def change(_: str, text: str) -> str:
        for hit in sorted(analyzer.analyze(text, language="en"), key=lambda each: -each.start):
            text = f"{text[: hit.start]}<{hit.entity_type}>{text[hit.end :]}"
        return text

    return each_text(change)


def loading(make: Callable[[], Redact]) -> Load:
    """Return what loads a peer, or says why it cannot."""

    def load() -> tuple[Redact | None, str]:
        try:
            return make(), ""
        except ModuleNotFoundError:
            return None, "not installed"
        except (ImportError, AttributeError) as error:
            return None, f"cannot run: {error}"

    return load


PEERS: dict[str, Load] = {
    "logfire": loading(logfire),
    "sentry-sdk": loading(sentry),
    "loggingredactor": loading(loggingredactor),
    "scrubadub": loading(scrubadub),
    "detect-secrets": loading(detect_secrets),
    "presidio-analyzer": loading(presidio),
}
