"""What a limit may say."""

import pytest

from mobius_otel.errors import ConfigurationError
from mobius_otel.security import RateLimit


@pytest.mark.parametrize(
    ("text", "limit", "per"),
    [
        ("100/minute", 100, 60.0),
        ("1/second", 1, 1.0),
        ("7/hour", 7, 3600.0),
        ("999999999/day", 999_999_999, 86400.0),
        ("5/10 seconds", 5, 10.0),
        ("5/1 second", 5, 1.0),
        ("3/90 minutes", 3, 5400.0),
        ("3/2 days", 3, 172800.0),
    ],
)
def test_both_forms_are_read(text, limit, per):
    """N/unit and N/M units."""
    assert RateLimit.parse(text) == RateLimit(limit, per)


@pytest.mark.parametrize(
    "text",
    ["", "100", "100/", "/minute", "0/minute", "-1/minute", "1.5/minute", "100/minutes", "100/fortnight", "1/0 seconds",
     "100 per minute", " 100/minute", "100/minute\n", "१/minute", "1e3/minute", None, 100, b"100/minute", "9" * 5000],
)  # fmt: skip
def test_anything_else_is_an_error_that_shows_both_forms(text):
    """The message has an example of each form and stays short."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimit.parse(text)
    assert "100/minute" in str(caught.value)
    assert "5/10 seconds" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("limit", "per"), [(0, 1), (True, 1), (1.0, 1), (1, 0), (1, -1), (1, float("nan")),
                                            (1, float("inf")), (1, 1e-9), (1, "60"), (10**9, 1)])  # fmt: skip
def test_numbers_out_of_range_are_refused(limit, per):
    """At construction, by name."""
    with pytest.raises(ConfigurationError):
        RateLimit(limit, per)
