# ruff: noqa: E501
"""What a user adds: functions that find, policies from files and out of two, and why something was found."""

import itertools
import sys

import pytest

from mobius_otel import compat
from mobius_otel.errors import ConfigurationError, PolicyError
from mobius_otel.telemetry.redaction import RedactionPolicy, Redactor
from mobius_otel.telemetry.redaction.patterns import checked_pattern


def _badge(text):
    at = text.find("badge")
    return [(at, at + 5)] if at >= 0 else []


def test_a_function_finds_and_markers_stay_whole():
    """Its places become markers; what overlaps is one; what was taken out before is not cut in two."""
    policy = RedactionPolicy(detectors={"badge": _badge}, patterns=(("order", "O-[0-9]+"),))
    assert Redactor(policy).text("a badge of O-12") == "a [redacted:badge] of [redacted:order]"
    everything = RedactionPolicy(detectors={"all": lambda text: [(0, 3), (2, len(text))]}, patterns=(("order", "O-1"),))
    assert Redactor(everything).text("see O-1 there") == "[redacted:all][redacted:order][redacted:all]"
    assert policy.version != RedactionPolicy(patterns=policy.patterns).version


@pytest.mark.parametrize(
    "finder",
    [
        lambda text: 1 / 0, lambda text: None, lambda text: [(0, 99)], lambda text: [(3, 1)], lambda text: ["ab"],
        lambda text: [(0, 1, 2)], lambda text: [(-1, 2)], lambda text: [(True, 2)], lambda text: itertools.repeat((0, 0)),
    ],
)  # fmt: skip
def test_a_function_that_fails_or_returns_nonsense_blanks_the_text(finder):
    """Fail closed, and counted: nobody knows what it would have found."""
    result = Redactor(RedactionPolicy(detectors={"badge": finder})).redact({"m": "some text"})
    assert result.value == {"m": "[redacted:unreadable]"}
    assert [(match.kind, match.path) for match in result.matches] == [("unreadable", "m")]


@pytest.mark.parametrize(
    ("detectors", "words"),
    [
        ({"Bad": _badge}, "lower-case"), ({"unreadable": _badge}, "none of the redactor's own"), ({"x": 5}, "a function"),
        ("ab", "a mapping"), (("ab",), "pairs of"), ((("a", _badge), ("a", _badge)), "one detector alone"),
    ],
)  # fmt: skip
def test_a_wrong_detector_is_refused_with_its_rule(detectors, words):
    """At construction, by name."""
    with pytest.raises(ConfigurationError, match=r"redaction\.detectors") as refused:
        RedactionPolicy(detectors=detectors)
    assert words in str(refused.value)


def test_a_policy_is_read_from_its_file(tmp_path, monkeypatch):
    """Functions of modules beside the file are found, and the path is left as it was."""
    (tmp_path / "own_finders.py").write_text("def find_badges(text):\n    return [(0, 1)]\n")
    monkeypatch.setattr(compat, "linear_pattern", lambda pattern: None)
    file = tmp_path / "mobius.toml"
    file.write_text('[redaction]\nnames = ["x"]\ndetectors = ["own_finders:find_badges"]\n')
    before = list(sys.path)
    policy = RedactionPolicy.from_file(file)
    assert sys.path == before
    assert Redactor(policy).text("abcdef") == "[redacted:badges]bcdef"
    monkeypatch.delitem(sys.modules, "own_finders")
    for line, said in (
        ('detectors = ["own_finders:nothing"]', "AttributeError"), ('detectors = ["no_such:x"]', "ModuleNotFoundError"),
        ('patterns = {bad = "(a+)+b"}', "a repetition inside a repetition"), ('off = ["emial"]', "Did you mean 'email'"),
    ):  # fmt: skip
        file.write_text(f"[service]\n[redaction]\n{line}\n")
        with pytest.raises(PolicyError) as refused:
            RedactionPolicy.from_file(file)
        assert refused.value.line == 3
        assert said in str(refused.value)


def test_two_policies_make_one():
    """What either finds, within the limits of the other."""
    one = RedactionPolicy(
        names=("a1",), patterns=(("p", "P-1"),), kinds_off={"email"}, max_depth=3, detectors={"d": _badge}
    )
    two = RedactionPolicy(names=("b1", "a1"), trusted=("t",), detectors={"e": _badge}, max_depth=5)
    both = one.merge(two)
    assert (both.names, both.trusted, both.kinds_off, both.max_depth) == (("a1", "b1"), ("t",), {"email"}, 5)
    assert dict(both.detectors) == {"d": _badge, "e": _badge}
    assert both.patterns == (("p", "P-1"),)
    assert both.version not in {one.version, two.version}
    assert RedactionPolicy.default().merge(RedactionPolicy.default()) == RedactionPolicy.default()


def test_an_explanation_names_the_rule_and_never_the_secret():
    """Names, detectors, patterns, limits; a marker that stood there before is no find."""
    policy = RedactionPolicy(patterns=(("number", "B-[0-9]{6}"),), detectors={"word": _badge}, max_depth=2)
    value = {
        "user": {"password": "hunter2"}, "m": "[redacted:ssn] B-123456 4111 1111 1111 1111 password=hunter2 badge",
        "deep": {"a": {"b": {}}},
    }  # fmt: skip
    found = policy.explain(value)
    assert [(one.kind, one.path, one.rule) for one in found] == [
        ("password", "user.password", "name 'password'"), ("number", "m", "pattern 'number'"),
        ("card", "m", "detector 'card'"), ("password", "m", "name 'password'"), ("word", "m", "detector 'word'"),
        ("depth", "deep.a", "limit max_depth"),
    ]  # fmt: skip
    assert "hunter2" not in repr(found)
    assert "4111" not in repr(found)
    assert policy.explain({"fine": "[redacted:card]"}) == []


def test_re2_runs_what_the_check_refuses():
    """In linear time, letters beyond ASCII and halves of pairs included."""
    pytest.importorskip("re2")
    assert compat.has_linear_patterns()
    policy = RedactionPolicy(patterns=(("mine", "(a+)+b"),))
    assert Redactor(policy).text("\u00e9\ud800 aaab aac") == "\u00e9\ud800 [redacted:mine] aac"
    assert Redactor(policy).text("a" * 30_000) == "a" * 30_000
    many = list(checked_pattern("mine", "(?:a.*?b|a)").finditer("a" * 5000, 0, 5000))
    assert many[-1].span()[1] == 5000
    assert len(many) == 1001
    with pytest.raises(ConfigurationError, match="empty text"):
        checked_pattern("mine", r"\p{Nd}*")
