"""Redaction of what structlog prints, wherever the processor stands among the others."""

import io
import json
import logging
import subprocess
import sys

import pytest

from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.redaction import RedactionPolicy, Redactor, cover_logging, redact_event, uncover_logging
from mobius_otel.telemetry.redaction.tally import tally
from tests.telemetry.redaction.secrets_kit import CANARY


class Unreadable:
    """Cannot be shown."""

    def __str__(self):
        raise ValueError(CANARY)

    __repr__ = __str__


def test_an_event_is_redacted_by_name_and_by_what_it_says():
    """The caller's own dictionary stays as it is; a clean one keeps its values and their order."""
    given = {"event": f"login token={CANARY}", "password": CANARY, "deep": {"api_key": CANARY}, "n": 5}
    before = json.dumps(given)
    assert redact_event(None, "info", given) == {
        "event": "login token=[redacted:token]", "password": "[redacted:password]",
        "deep": {"api_key": "[redacted:api_key]"}, "n": 5,
    }  # fmt: skip
    assert json.dumps(given) == before
    assert list(redact_event(None, "info", {"b": 1, "event": "x", "a": None}).items()) == [
        ("b", 1), ("event", "x"), ("a", None)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["true", "error", "tuple"])
def test_an_exception_becomes_a_redacted_text_in_every_form_it_may_have(form):
    """So that no renderer draws it later, with the values of its variables."""
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError as error:
        told = {"true": True, "error": error, "tuple": sys.exc_info()}[form]
        clean = redact_event(None, "error", {"event": "failed", "exc_info": told})
    assert "exc_info" not in clean
    assert clean["exception"].endswith("ValueError: password=[redacted:password]")
    assert redact_event(None, "error", {"event": "failed", "exc_info": True}) == {"event": "failed"}


def test_arguments_are_put_into_the_message_before_it_is_looked_at():
    """A name in the message and a value in the arguments tell nothing apart."""
    clean = redact_event(None, "info", {"event": "password=%s", "positional_args": (CANARY,)})
    assert clean == {"event": "password=[redacted:password]"}
    clean = redact_event(None, "info", {"event": "token=%(t)s", "positional_args": ({"t": CANARY},)})
    assert clean == {"event": "token=[redacted:token]"}


def test_what_a_renderer_made_is_redacted_too():
    """A line, bytes, and the arguments of the standard library."""
    assert redact_event(None, "info", f"x password={CANARY}") == "x password=[redacted:password]"
    assert CANARY.encode() not in redact_event(None, "info", json.dumps({"password": CANARY}).encode())
    record = logging.makeLogRecord({})
    extra = {"_logger": record, "_name": "info", "password": CANARY}
    positional, named = redact_event(None, "info", (({"event": "x", "password": CANARY},), {"extra": extra}))
    assert positional == ({"event": "x", "password": "[redacted:password]"},)
    assert named == {"extra": {"_logger": record, "_name": "info", "password": "[redacted:password]"}}
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        clean = redact_event(None, "error", {"msg": "failed", "extra": {"password": CANARY}, "exc_info": True})
    assert set(clean) == {"msg", "extra"}
    assert clean["msg"].endswith("ValueError: password=[redacted:password]")


def test_what_structlog_hands_on_for_itself_is_the_same_object():
    """Its bridge to the standard library needs the record."""
    record = logging.makeLogRecord({"msg": CANARY})
    clean = redact_event(None, "info", {"event": "x", "_record": record, "_from_structlog": False})
    assert clean == {"event": "x", "_record": record, "_from_structlog": False}


@pytest.mark.parametrize(
    "event",
    [
        {"event": "%d", "positional_args": (CANARY,)}, {"event": "x", "exc_info": (1, 2)},
        {"event": f"token={CANARY}", "positional_args": 5},
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_blanked_and_counted(event, monkeypatch):
    """The line still goes out."""
    counted = []
    monkeypatch.setattr(type(tally), "add", lambda _, kinds, location: counted.append((list(kinds), location)))
    assert redact_event(None, "info", event) == {"event": "[redacted:unreadable]"}
    assert counted == [(["unreadable"], "logging")]


def test_a_value_that_cannot_be_read_is_blanked_alone():
    """Its neighbours stay."""
    clean = redact_event(None, "info", {"event": "x", "what": Unreadable(), "kept": 1})
    assert clean == {"event": "x", "what": "[redacted:unreadable]", "kept": 1}


def test_the_configured_policy_holds():
    """As everywhere."""
    defaults.install(defaults.Defaults(redactor=Redactor(RedactionPolicy(names=("badge",)))))
    assert redact_event(None, "info", {"event": "x", "badge": CANARY})["badge"] == "[redacted:name]"


def test_structlog_is_not_imported():
    """Who does not use it has no use for it."""
    code = "import sys, mobius_otel.telemetry.redaction; print('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


# --- with structlog itself ------------------------------------------------------------------------------------


def chains():
    structlog = pytest.importorskip("structlog")
    add, render = structlog.processors, structlog.processors.JSONRenderer()
    others = [structlog.stdlib.PositionalArgumentsFormatter(), add.StackInfoRenderer(), add.format_exc_info]
    console = structlog.dev.ConsoleRenderer(colors=False)
    pretty = [redact_event, structlog.stdlib.PositionalArgumentsFormatter(), console]
    return {
        "first": [redact_event, *others, render], "last": [*others, redact_event, render],
        "after": [*others, render, redact_event], "twice": [redact_event, *others, redact_event, render],
        "console": pretty, "tracebacks": [redact_event, add.dict_tracebacks, render],
        "tracebacks first": [add.dict_tracebacks, others[0], redact_event, render],
    }  # fmt: skip


@pytest.mark.parametrize("place", ["first", "last", "after", "twice", "console", "tracebacks", "tracebacks first"])
def test_no_secret_is_printed_wherever_the_processor_stands(place):
    """Bound values, arguments, exceptions."""
    processors = chains()[place]
    import structlog

    out = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(out), processors=processors, wrapper_class=structlog.stdlib.BoundLogger
    )
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        log.bind(api_key=CANARY, user="ann").exception("kept token=%s", CANARY)
    text = out.getvalue()
    assert CANARY not in text
    assert "ann" in text
    assert "kept token=" in text
    assert "password=[redacted:password]" in text


@pytest.mark.parametrize("place", ["before", "in the formatter"])
def test_the_bridge_to_the_standard_library_is_covered(place):
    """structlog behind a handler of logging, for its own events and for those of other loggers."""
    structlog = pytest.importorskip("structlog")
    bridge = structlog.stdlib.ProcessorFormatter
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    inside = [redact_event] if place == "in the formatter" else []
    handler.setFormatter(
        bridge(processors=[*inside, bridge.remove_processors_meta, structlog.processors.JSONRenderer()],
               foreign_pre_chain=[redact_event])
    )  # fmt: skip
    logger = logging.Logger("service")  # noqa: LOG001 - one that no other test can see
    logger.addHandler(handler)
    log = structlog.wrap_logger(
        logger, processors=[redact_event, bridge.wrap_for_formatter], wrapper_class=structlog.stdlib.BoundLogger
    )
    log.info("kept", password=CANARY)
    logger.info("kept token=%s", CANARY)
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        logger.exception("kept")
    assert CANARY not in out.getvalue()
    assert out.getvalue().count("kept") == 3


def test_the_covered_log_output_needs_no_processor_behind_the_bridge():
    """What configure() covers is the handler."""
    structlog = pytest.importorskip("structlog")
    out = io.StringIO()
    logger = logging.Logger("service")  # noqa: LOG001 - one that no other test can see
    logger.addHandler(logging.StreamHandler(out))
    log = structlog.wrap_logger(logger, processors=[structlog.processors.JSONRenderer()])
    cover_logging(Redactor)
    try:
        log.info("kept", password=CANARY)
    finally:
        uncover_logging()
    assert json.loads(out.getvalue()) == {"event": "kept", "password": "[redacted:password]"}
