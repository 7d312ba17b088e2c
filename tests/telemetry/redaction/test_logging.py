"""Redaction of the process's log output: every handler, every way out of it."""

import io
import logging
import logging.handlers
import pickle
import queue
from typing import ClassVar

import pytest

from mobius_otel.telemetry.redaction import RedactingFilter, Redactor, cover_logging, uncover_logging
from mobius_otel.telemetry.redaction.signals import redact_log
from tests.telemetry.redaction.secrets_kit import CANARY

REDACTOR = Redactor()


@pytest.fixture
def log():
    """A logger of its own, and what its handler wrote; the handler was made before covering."""
    logger = logging.Logger("service")  # noqa: LOG001 - one that no other test can see
    out = io.StringIO()
    logger.addHandler(logging.StreamHandler(out))
    cover_logging(lambda: REDACTOR)
    yield logger, out
    uncover_logging()


def test_message_arguments_exception_and_stack_are_redacted(log):
    """After formatting, so whatever a formatter puts together."""
    logger, out = log
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        logger.exception("GET /v1?token=%s&page=%d", CANARY, 2, stack_info=True)
    text = out.getvalue()
    assert CANARY not in text
    assert "GET /v1?token=[redacted:token]&page=2" in text
    assert "ValueError: password=[redacted:password]" in text


@pytest.mark.parametrize(
    "line",
    [
        '127.0.0.1:5000 - "GET /v1/items?api_key=%s HTTP/1.1" 200', '127.0.0.1 - - [24/Nov/2026] "GET /?sig=%s" 200 -',
        "Authorization: Bearer %s", "connecting to postgres://shop:%s@db/shop",
    ],
)  # fmt: skip
def test_access_lines_of_servers_are_redacted(log, line):
    """uvicorn, werkzeug and gunicorn print query strings."""
    logger, out = log
    logger.info(line, CANARY)
    logger.warning(line, CANARY)
    assert CANARY not in out.getvalue()
    assert "[redacted:" in out.getvalue()


def test_a_line_that_cannot_be_made_says_where_it_came_from(log, capsys):
    """The standard library would print its arguments to stderr instead."""
    logger, out = log
    logger.error("%d of %s", "x", f"password={CANARY}")
    assert out.getvalue().startswith("[redacted:unreadable] ERROR service at ")
    assert CANARY not in capsys.readouterr().err


def test_the_error_of_a_handler_prints_no_secret(log, capsys):
    """A handler whose stream is gone prints the record; it prints a redacted one."""
    logger, _ = log
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    stream.close()
    logger.addHandler(handler)
    logger.error("password=%s", CANARY)
    printed = capsys.readouterr().err
    assert "password=[redacted:password]" in printed
    assert CANARY not in printed


class Shouting(logging.StreamHandler):
    """A handler that formats by itself, made before covering."""

    def format(self, record):
        return record.getMessage().upper()


def test_handlers_that_format_by_themselves_are_covered(log):
    """Classes that exist and classes that are defined later."""
    logger, _ = log

    class Later(logging.Handler):
        lines: ClassVar[list] = []

        def format(self, record):
            return {"message": record.getMessage(), "password": CANARY}

        def emit(self, record):
            self.lines.append(self.format(record))

    out = io.StringIO()
    logger.addHandler(Shouting(out))
    logger.addHandler(Later())
    logger.error("password=hunter2")
    assert out.getvalue() == "PASSWORD=[redacted:password]\n"
    assert Later.lines == [{"message": "password=[redacted:password]", "password": "[redacted:password]"}]


def test_records_that_leave_without_being_formatted_are_redacted(log):
    """Over a socket, over HTTP, through a queue: also what extra= put on them."""
    record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "token=%s", (CANARY,), None)
    record.password = CANARY
    pickled = logging.handlers.SocketHandler("localhost", 1).makePickle(record)
    assert CANARY.encode() not in pickled
    assert pickle.loads(pickled[4:])["msg"] == "token=[redacted:token]"
    assert CANARY not in repr(logging.handlers.HTTPHandler("localhost", "/").mapLogRecord(record))
    waiting = queue.Queue()
    logging.handlers.QueueHandler(waiting).handle(record)
    assert CANARY not in waiting.get().getMessage()
    assert record.args == (CANARY,)


def test_covering_logging_can_be_taken_back():
    """Afterwards the classes are what they were, and a second time changes nothing."""
    before = logging.Handler.format, logging.handlers.SocketHandler.makePickle, Shouting.format
    cover_logging(lambda: REDACTOR)
    cover_logging(lambda: REDACTOR)
    assert Shouting.format is not before[2]
    uncover_logging()
    assert (logging.Handler.format, logging.handlers.SocketHandler.makePickle, Shouting.format) == before
    assert "__init_subclass__" not in logging.Handler.__dict__


def test_a_cover_under_another_patch_lets_everything_through_once_taken_off(monkeypatch):
    """Somebody who wrapped the method after us keeps a working one."""
    cover_logging(lambda: REDACTOR)
    ours = logging.Handler.format
    monkeypatch.setattr(logging.Handler, "format", lambda self, record: ours(self, record) + "!")
    uncover_logging()
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, "token=abc1", (), None)
    assert logging.Handler().format(record) == "token=abc1!"


def test_a_getter_that_fails_redacts_by_the_default_policy(log):
    """Nothing passes unread."""
    logger, out = log
    cover_logging(lambda: 1 / 0)
    logger.error("password=%s", CANARY)
    assert out.getvalue() == "password=[redacted:password]\n"


def test_a_broken_log_record_of_the_sdk_is_blanked():
    """An object that is no record at all does not raise."""

    class Inner:
        body, attributes, event_name, exception = "x", 5, "", None

    class Outer:
        log_record, resource, instrumentation_scope = Inner(), None, None

    outer = Outer()
    redact_log(outer, REDACTOR)
    assert outer.log_record.body == "[redacted:unreadable]"


def test_a_traceback_that_rich_would_draw_is_redacted(log):
    """It reads the record itself, and prints the values of variables."""
    rich_logging = pytest.importorskip("rich.logging")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=200)
    logger, _ = log
    logger.addHandler(rich_logging.RichHandler(console=console, rich_tracebacks=True, tracebacks_show_locals=True))
    password = CANARY
    try:
        raise ValueError(f"password={password}")
    except ValueError:
        logger.exception("token=%s kept", CANARY)
    text = console.file.getvalue()
    assert CANARY not in text
    assert "kept" in text
    assert "[redacted:password]" in text


class Mixin:
    """Formats for whatever it is mixed into."""

    def format(self, record):
        return f"mixed {record.getMessage()}"


def test_a_handler_whose_format_comes_from_a_mixin_is_covered(log):
    """Also where it was defined before, and it is what it was once the cover is taken off."""
    logger, _ = log

    class Mixed(Mixin, logging.StreamHandler):
        pass

    out = io.StringIO()
    logger.addHandler(Mixed(out))
    logger.warning("token=%s", CANARY)
    assert out.getvalue() == "mixed token=[redacted:token]\n"
    uncover_logging()
    assert "format" not in Mixed.__dict__


def test_a_filter_redacts_what_its_handler_and_those_after_it_get():
    """For who sets logging up by hand: message, arguments, extra fields, exception."""
    logger = logging.Logger("service")  # noqa: LOG001 - one that no other test can see
    out, records = io.StringIO(), []
    first, second = logging.StreamHandler(out), logging.Handler()
    second.emit = records.append
    first.addFilter(RedactingFilter(REDACTOR))
    logger.addHandler(first)
    logger.addHandler(second)
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        logger.exception("token=%s kept", CANARY, extra={"password": CANARY, "user": "ann"})
    assert CANARY not in out.getvalue()
    assert "ValueError: password=[redacted:password]" in out.getvalue()
    (record,) = records
    assert (record.password, record.user, record.exc_info) == ("[redacted:password]", "ann", None)
    assert record.getMessage() == "token=[redacted:token] kept"


def test_a_filter_blanks_a_record_that_cannot_be_read():
    """It still goes out, and nobody sees an exception."""
    record = logging.makeLogRecord({"msg": "%s and %d", "args": (CANARY,), "levelname": "INFO"})
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "[redacted:unreadable]"


def test_a_filter_is_found_by_a_configuration():
    """As dictConfig names it."""
    from logging.config import dictConfig

    name = "mobius_otel.telemetry.redaction.RedactingFilter"
    stream = io.StringIO()
    handler = {"class": "logging.StreamHandler", "filters": ["redact"], "stream": stream}
    dictConfig({
        "version": 1, "disable_existing_loggers": False, "filters": {"redact": {"()": name}},
        "handlers": {"out": handler},
        "loggers": {"tests.filtered": {"handlers": ["out"], "level": "INFO", "propagate": False}},
    })  # fmt: skip
    logging.getLogger("tests.filtered").info("token=%s", CANARY)
    assert stream.getvalue() == "token=[redacted:token]\n"


def test_an_error_of_a_handler_is_printed_without_secrets(log, capsys):
    """Also the exception that was being handled when the handler failed, which nobody logged."""
    logger, out = log
    out.close()
    try:
        raise RuntimeError(f"cannot connect to postgres://svc:{CANARY}@db/x")
    except RuntimeError:
        logger.exception("boom password=%s", CANARY)
    said = capsys.readouterr().err
    assert CANARY not in said
    assert "--- Logging error ---" in said
    assert "postgres://svc:[redacted:url_credential]@db/x" in said
    assert "Message: 'boom password=[redacted:password]'" in said
