"""The policy: a value that is right or refused at construction."""

import dataclasses

import pytest

from mobius_otel import compat
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction import RedactionPolicy, Redactor


def test_a_section_of_the_policy_file_becomes_a_policy():
    """The four keys, as lists and a table."""
    policy = RedactionPolicy.from_section(
        {"names": ["badge_no"], "trusted": ["x.*"], "patterns": {"badge": "B-[0-9]{6}"}, "off": ["email"]}
    )
    assert policy.names == ("badge_no",)
    assert policy.patterns == (("badge", "B-[0-9]{6}"),)
    assert policy.kinds_off == {"email"}
    assert Redactor(policy).redact({"badgeNo": "x1", "x.password": "y", "m": "a@example.com B-123456"}).value == {
        "badgeNo": "[redacted:name]", "x.password": "y", "m": "a@example.com [redacted:badge]",
    }  # fmt: skip


def test_an_empty_section_is_the_default_policy():
    """Every key has a default."""
    assert RedactionPolicy.from_section({}) == RedactionPolicy.default()


def test_the_version_tells_policies_apart():
    """Two policies have one version when they say the same."""
    one, same, other = (RedactionPolicy(names=(name,)) for name in ("a", "a", "b"))
    assert one.version == same.version != other.version
    assert RedactionPolicy.default().version == "1"
    assert RedactionPolicy(version="mine").version == "mine"


def test_a_policy_cannot_be_changed():
    """It is a frozen value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RedactionPolicy.default().names = ("x",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kinds_off": frozenset({"emial"})}, "Did you mean 'email'?"),
        ({"names": "password"}, "a list of texts"),
        ({"names": ("",)}, "none of them empty"),
        ({"trusted": (5,)}, "a list of texts"),
        ({"patterns": (("Bad Kind", "x"),)}, "lower-case"),
        ({"patterns": (("unreadable", "x"),)}, "none of the redactor's own"),
        ({"patterns": (("a", "("),)}, "a regular expression"),
        ({"patterns": ("ab",)}, "a regular expression"),
        ({"patterns": (5,)}, "pairs of a kind"),
        ({"max_depth": 0}, "a whole number from 1 to 64"),
        ({"max_items": True}, "a whole number"),
        ({"max_length": 10}, "a whole number from 64"),
        ({"version": 5}, "a text of at most 64"),
    ],
)
def test_a_wrong_value_is_refused_with_its_rule(arguments, words):
    """The error says what is asked for."""
    with pytest.raises(ConfigurationError, match="redaction") as refused:
        RedactionPolicy(**arguments)
    assert words in str(refused.value)


def test_an_unknown_key_of_the_section_is_refused():
    """A typing error does not switch anything off in silence."""
    with pytest.raises(ConfigurationError, match="Did you mean 'names'"):
        RedactionPolicy.from_section({"nams": ["x"]})
    with pytest.raises(ConfigurationError, match="a table"):
        RedactionPolicy.from_section({"patterns": ["x"]})


@pytest.mark.parametrize(
    "pattern",
    [
        r"B-[0-9]{6}", r"EMP-\d+", r"\bEMP\d{1,8}\b", r"[A-Z]{2}\d{4}(?:-\d{2}){2}", r"a.{0,20}b", r"(?i)kunde:\s*\w+",
        r"x\d+y\d+", r"(?<=id=)\w{1,20}", r"(?:ab|cd)\d{3}", r"x-[a-z]*+!", r"(?:emp|usr)-(\d{3,8})",
    ],
)  # fmt: skip
def test_a_pattern_that_takes_its_time_is_not_refused_without_reason(pattern):
    """Bounded, possessive or separated repetition is fine."""
    assert RedactionPolicy(patterns=(("mine", pattern),)).patterns


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b", r"(a|a)*b", r"(\w+\s?)*$x", r"\d+-x", r"a.*b.*c", r"x\d+\d+", r"(a*)*b", r"(?:a?){30}b",
        r"x(\w+)(\d+)y", r"(a)\1", "", "(", "a*", r"(?:x\d*)?\d*y", r"x(a|b)*(a|b)*z", r"(?:\w+)@x", r"(?:ab|cd+)+x",
        r"x(?:a*|b)a*y", r"(?=\d+x)\d", r"x{1,5}(?:y?x{1,9}){2,9}z",
    ],
)  # fmt: skip
def test_a_pattern_that_could_take_minutes_is_refused(pattern, monkeypatch):
    """Nested or ambiguous repetition, unbounded beginnings, references back, and what matches nothing."""
    monkeypatch.setattr(compat, "linear_pattern", lambda pattern: None)
    with pytest.raises(ConfigurationError, match=r"redaction\.patterns\.mine"):
        RedactionPolicy(patterns=(("mine", pattern),))


def test_every_kind_is_explained():
    """The table of the documentation has them all, and none that is not there."""
    from mobius_otel.telemetry.redaction.kinds import MEANINGS
    from mobius_otel.telemetry.redaction.policy import KINDS

    assert MEANINGS.keys() == KINDS
