"""What happens to what is found: by kind, by name, by place."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobius_otel import RedactionPolicy, Redactor
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.redaction import Pseudonyms, RedactionRule

KEYS = Pseudonyms({"k2": "a made-up key of tests", "k1": "an older made-up key"})
CARD = "4111 1111 1111 1111"


def redactor(**policy):
    return Redactor(RedactionPolicy(**policy), KEYS)


def test_part_of_a_card_an_iban_and_a_number_may_be_shown():
    """Their last four characters, in text, as a whole value and as a number."""
    own = redactor(actions={"card": "partial", "iban": "partial", "phone": "partial"})
    value = {"note": f"paid with {CARD}.", "card_number": CARD, "n": 4111111111111111, "iban": "DE89370400440532013000",
             "call": "+49 30 901820"}  # fmt: skip
    assert own.redact(value).value == {
        "note": "paid with [redacted:card:1111].", "card_number": "[redacted:card:1111]", "n": "[redacted:card:1111]",
        "iban": "[redacted:iban:3000]", "call": "[redacted:phone:1820]",
    }  # fmt: skip


def test_what_is_dropped_goes_with_its_name():
    """Out of a mapping and out of a list; out of a text the secret alone."""
    own = redactor(actions={"password": "drop", "email": "drop", "card": "drop"})
    value = {"password": "hunter2", "to": "write to ann@example.com now", "cards": [4111111111111111, 7], "ok": 1}
    assert own.redact(value).value == {"to": "write to  now", "cards": [7], "ok": 1}
    assert own.attribute("password", "hunter2") == ""


def test_a_pseudonym_is_the_same_for_the_same_value():
    """However it is written and wherever it stands; another tenant, kind or key gives another one."""
    own = redactor(actions={"email": "pseudonym"})
    one = own.redact({"by": "Ann@Example.com", "text": "mail ann@example.com"}).value
    assert one["by"] == one["text"].removeprefix("mail ")
    assert one["by"].startswith("[redacted:email:k2.")
    assert own.redact("ann@example.com", tenant="acme").value != one["by"]
    assert own.redact("bob@example.com").value != one["by"]
    assert KEYS.all("email", "ann@example.com") == {"k2": one["by"], "k1": KEYS.all("email", " ANN@example.com")["k1"]}


def test_what_passes_stays_and_is_no_match():
    """A kind that is let through everywhere."""
    own = redactor(actions={"email": "pass"})
    value = {"to": "ann@example.com", "password": "hunter2"}
    result = own.redact(value)
    assert result.value == {"to": "ann@example.com", "password": "[redacted:password]"}
    assert [match.kind for match in result.matches] == ["password"]
    assert own.redact({"to": "ann@example.com"}).matches == ()


def test_rules_decide_by_name_and_place_before_actions():
    """The first that fits; a text that passed under one name is not remembered as clean under another."""
    own = redactor(
        actions={"email": "drop"},
        rules=(
            RedactionRule(action="pass", kind="email", name="support_email"),
            RedactionRule(action="pseudonym", kind="email", location="audit"),
            RedactionRule(action="drop", name="internal"),
        ),
    )
    value = {"supportEmail": "help@example.com", "email": "help@example.com", "internal": "card 4111111111111111"}
    assert own.redact(value).value == {"supportEmail": "help@example.com", "internal": "card "}
    assert own.redact(value, "audit").value["email"].startswith("[redacted:email:k2.")
    assert own.redact({"email": "help@example.com"}).value == {}


def test_twice_is_once_with_every_action():
    """Markers with the end of a secret or its pseudonym are markers."""
    for action in ("mask", "partial", "pseudonym", "pass"):
        own = redactor(actions={"card": action, "email": action if action != "partial" else "mask"})
        value = {
            "a": f"x {CARD} y ann@example.com",
            "card_number": CARD,
            "q": f"card_number={CARD}&email=ann@example.com",
            "j": json.dumps({"card_number": CARD, "email": "ann@example.com"}),
        }
        once = own.redact(value).value
        assert own.redact(once).value == once
        assert own.redact(once).matches == ()


@given(st.text(max_size=80))
@settings(deadline=None)
def test_a_pseudonym_never_holds_its_value(value):
    """Whatever it is of, it is a marker of its own form."""
    shown = KEYS.of("email", value)
    assert Redactor().text(f"x {shown} y") == f"x {shown} y"
    assert len(shown) == len("[redacted:email:k2.]") + 16


def test_the_keys_come_from_the_environment(monkeypatch):
    """Newest first; without one a policy that wants pseudonyms is refused at once."""
    policy = RedactionPolicy(actions={"email": "pseudonym"})
    monkeypatch.delenv("MOBIUS_OTEL_PSEUDONYM_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"MOBIUS_OTEL_PSEUDONYM_KEY.*openssl rand"):
        Redactor(policy)
    monkeypatch.setenv("MOBIUS_OTEL_PSEUDONYM_KEY", "b:a made-up key of tests, a:an older made-up key")
    assert Redactor(policy).text("ann@example.com").startswith("[redacted:email:b.")
    for wrong in ("nocolon", "A:a made-up key of tests", "k:short"):
        monkeypatch.setenv("MOBIUS_OTEL_PSEUDONYM_KEY", wrong)
        with pytest.raises(ConfigurationError) as caught:
            Redactor(policy)
        assert wrong.rpartition(":")[2] not in str(caught.value) or wrong == "nocolon"
    assert "made-up" not in repr(KEYS)


WRONG = [
    ({"actions": {"card": "hide"}}, "one of mask, partial"),
    ({"actions": {"password": "partial"}}, "card, iban, phone"),
    ({"actions": {"crad": "mask"}}, "Did you mean 'card'"),
    ({"actions": ["card"]}, "pairs of a kind and an action"),
    ({"rules": ({"action": "drop"},)}, "RedactionRule"),
]


@pytest.mark.parametrize(("policy", "message"), WRONG)
def test_what_breaks_a_rule_is_refused(policy, message):
    """One error, with the way out."""
    with pytest.raises(ConfigurationError, match=message):
        RedactionPolicy(**policy)


def test_a_rule_that_says_nothing_is_refused():
    """A kind, a name or a place."""
    with pytest.raises(ConfigurationError, match="a kind, a name or a location"):
        RedactionRule(action="drop")
    with pytest.raises(ConfigurationError, match="one of card, iban, phone"):
        RedactionRule(action="partial", name="x")


def test_a_policy_file_says_it(tmp_path, monkeypatch):
    """Actions by kind, rules by name and place."""
    monkeypatch.setenv("MOBIUS_OTEL_PSEUDONYM_KEY", "k1:a made-up key of tests")
    file = tmp_path / "mobius.toml"
    file.write_text(
        '[redaction.actions]\ncard = "partial"\nemail = "pseudonym"\n\n'
        '[[redaction.rules]]\naction = "pass"\nkind = "email"\nname = "support_email"\n'
    )
    own = Redactor(RedactionPolicy.from_file(file))
    clean = own.redact({"support_email": "h@example.com", "email": "a@example.com", "card": CARD}).value
    assert clean["support_email"] == "h@example.com"
    assert clean["email"].startswith("[redacted:email:k1.")
    assert clean["card"] == "[redacted:card:1111]"


def test_a_text_that_was_masked_at_one_place_is_pseudonymous_at_another():
    """What is remembered of a text with a secret holds where all is masked, and nowhere else."""
    rule = RedactionRule(action="pseudonym", kind="email", location="audit")
    redactor = Redactor(RedactionPolicy(rules=(rule,)), Pseudonyms({"k1": "a made-up key of tests"}))
    text = "mail of ann@example.com"
    for _ in range(2):
        assert redactor.text(text, location="log") == "mail of [redacted:email]"
        assert redactor.text(text, location="audit").startswith("mail of [redacted:email:k1.")
