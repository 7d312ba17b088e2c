"""What SQLAlchemy's ``echo`` logs: the parameters in another record than the statement whose columns tell them."""

import io
import logging

import pytest
import sqlalchemy as sa
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from mobius_otel.telemetry.redaction import (
    RedactingFilter,
    RedactingLogRecordExporter,
    Redactor,
    cover_logging,
    uncover_logging,
)
from mobius_otel.telemetry.redaction.statement_logs import redacted_message

USERS = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String),
    sa.Column("password", sa.String),
)


def rows(number):
    return [{"name": f"ann-{n}", "password": f"hunter-{n}"} for n in range(number)]


@pytest.fixture(params=["filter", "cover"])
def echoed(request):
    """A connection to a database, and what its logger wrote; a time in a line looks like the place of a parameter."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("12:34:56,789 %(asctime)s %(filename)s:%(lineno)d $1 %(message)s"))
    if request.param == "filter":
        handler.addFilter(RedactingFilter(Redactor()))
    else:
        cover_logging(Redactor)
    logger = logging.getLogger("sqlalchemy.engine.Engine")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    engine = sa.create_engine("sqlite://")
    USERS.metadata.create_all(engine)
    with engine.begin() as connection:
        yield connection, out
    uncover_logging()
    logger.removeHandler(handler)
    logger.setLevel(level)
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        USERS.insert().values(name="ann-1", password="hunter-1"),
        USERS.update().where(USERS.c.name == "ann-1").values(password="hunter-1"),
        sa.select(USERS).where(USERS.c.password == "hunter-1", USERS.c.name == "ann-1"),
        sa.select(USERS).where(USERS.c.password.in_(["hunter-1", "hunter-2"]), USERS.c.name == "ann-1"),
        sa.select(USERS).where(USERS.c.name == "ann-1", USERS.c.password.not_in(["hunter-1", "hunter-2"])),
    ],
    ids=["insert", "update", "select", "in", "not in"],
)
def test_a_parameter_is_told_by_its_column_in_the_record_before(echoed, statement):
    connection, out = echoed
    connection.execute(statement)
    assert "hunter" not in out.getvalue()
    assert "[redacted:password]" in out.getvalue()
    assert "'ann-1'" in out.getvalue()


@pytest.mark.parametrize("number", [2, 40])
def test_many_rows_are_told_also_where_most_are_left_out(echoed, number):
    connection, out = echoed
    connection.execute(USERS.insert(), rows(number))
    assert "hunter" not in out.getvalue()
    assert f"'ann-{number - 1}'" in out.getvalue()


def test_an_error_that_names_a_list_is_told_too():
    text = "[SQL: SELECT a FROM t WHERE password IN (?, ?) AND f(?)]\n[parameters: ('hunter-1', 'hunter-2', 'x')]"
    marker = "[redacted:password]"
    assert Redactor().text(text) == text.replace("hunter-1", marker).replace("hunter-2", marker)


def test_the_records_of_an_exporter_are_told_in_their_order():
    memory = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(RedactingLogRecordExporter(memory, Redactor())))
    logger = provider.get_logger("sqlalchemy.engine.Engine")
    logger.emit(body="INSERT INTO users (name, password) VALUES (?, ?)")
    logger.emit(body="[generated in 0.00017s] ('ann-1', 'hunter-1')")
    bodies = [found.log_record.body for found in memory.get_finished_logs()]
    assert bodies[1] == "[generated in 0.00017s] ('ann-1', '[redacted:password]')"


@pytest.mark.parametrize(
    "message",
    ["('ann', 'x')", "[generated in", "[generated in 1s] ", "[raw sql] ()", "[no key 0.1s] ('a',)", "]\n[parameters: "],
)
def test_without_a_statement_nothing_is_told_and_nothing_is_lost(message):
    for logger in ("sqlalchemy.engine.Engine", "service", None):
        assert redacted_message(logger, message, Redactor().text) == message


@pytest.mark.parametrize(
    ("attributes", "name", "clean"),
    [
        (
            {
                "db.statement": "INSERT INTO u (login, password) VALUES (?, ?)",
                "db.statement.parameters": "('b', 'hunter-1')",
            },
            "db.statement.parameters",
            "('b', '[redacted:password]')",
        ),
        (
            {"db.query.text": "UPDATE u SET pin=? WHERE id=?", "db.query.parameter.0": "hunter-1", "value": 7},
            "db.query.parameter.0",
            "[redacted:pin]",
        ),
    ],
)
def test_parameters_beside_their_statement_are_told_by_its_columns(attributes, name, clean):
    """As attributes of OpenTelemetry; whatever the names beside are, and when they come again."""
    redactor = Redactor()
    for _ in range(2):
        result = redactor.redact({"span": attributes})
        assert result.value == {"span": attributes | {name: clean}}
        assert [f"[redacted:{match.kind}]" in clean and match.path for match in result.matches] == [f"span.{name}"]
    other = {"db.query.text": "SELECT * FROM u WHERE id=?", "db.query.parameter.0": "hunter-1"}
    assert redactor.redact(other).value is other
