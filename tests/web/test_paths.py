"""Paths: no way of writing one walks around a rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_otel.web.paths import PathRules, RouteRules, forms

WAYS_AROUND = [
    "/v1/items", "/v1", "/v1/", "//v1/items", "/v1//items", "///v1///items", "/V1/items", "/v1/items/", "/v1/items.",
    "/v1./items", "/v1%2fitems", "/v1%2Fitems", "/%76%31/items", "/%2576%2531/items", "/v1/../v1/items",
    "/health/../v1/items", "/health/..%2fv1/items", "/health/%2e%2e/v1/items", "/./v1/items", "/v1/./items",
    "/v1;x=1/items", "/v1/items;x", "\\v1\\items", "/v1\\items", "/v1/items%00", "/v1%20/items", "/\uff561/items",
]  # fmt: skip


@pytest.mark.parametrize("path", WAYS_AROUND)
def test_every_way_of_writing_a_guarded_path_is_guarded(path):
    """Encoded and double slashes, dots, case, parameters, trailing dots: the rule holds."""
    assert PathRules(["/v1/*"]).match(forms(path)) == "/v1/*"


@pytest.mark.parametrize(
    "path",
    ["/healthz-private", "/health-private", "/healthz", "/health/private", "/health/../v1/items", "/v1/../health",
     "/health%2f..%2fv1", "/health;/../v1", "/HEALTH/x", "/Health", "/healt%48", "/\uff48ealth"],
)  # fmt: skip
def test_a_public_path_opens_nothing_else(path):
    """ "/health" is public by itself, in every form at once and as it is written: "/Health" may be another route."""
    assert not PathRules(["/health"], fold=False).match_all(forms(path, fold=False))


@pytest.mark.parametrize("path", ["/health", "/Users/me", "/Users"])
def test_a_public_path_is_public(path):
    """The path itself stays open."""
    assert PathRules(["/health", "/Users/*"], fold=False).match_all(forms(path, fold=False))


def test_a_mounted_application_is_judged_with_and_without_its_prefix():
    """A server may put the prefix into the path; a router takes it off."""
    assert PathRules(["/v1/*"]).match(forms("/api/v1/items", "/api")) == "/v1/*"
    assert PathRules(["/api/v1/*"]).match(forms("/api/v1/items", "/api")) == "/api/v1/*"


@pytest.mark.parametrize("root", ["/api", "/api/"])
def test_a_path_whose_prefix_a_proxy_took_off_is_judged_with_it_too(root):
    """A policy for the public address holds, and an exception holds where both are named."""
    for path in ("/v1/items", "/v1//items", "/v1/%69tems"):
        assert PathRules(["/api/v1/*"]).match(forms(path, root)) == "/api/v1/*"
        assert PathRules(["/v1/*"]).match(forms(path, root)) == "/v1/*"
    assert PathRules(["/api/apixyz"]).match(forms("/apixyz", root)) == "/api/apixyz"
    assert PathRules(["/"]).match(forms("/api", root)) == "/"
    for path in ("/health", "/api/health"):
        as_written = forms(path, root, fold=False)
        assert not PathRules(["/health"], fold=False).match_all(as_written)
        assert not PathRules(["/api/health"], fold=False).match_all(as_written)
        assert PathRules(["/health", "/api/health"], fold=False).match_all(as_written)


def test_everything_falls_under_the_root_pattern():
    """ "/*" leaves nothing out."""
    assert PathRules(["/*"]).match(forms("/")) == "/*"
    assert PathRules(["/*"]).match(forms("*")) == "/*"  # OPTIONS *


def test_a_head_is_a_get_and_a_star_is_every_method():
    """HEAD is answered from the handler of GET, so it is judged as one."""
    routes = RouteRules({"GET /a": 1, "POST /a": 2, "* /a": 3})
    assert routes.match("HEAD", forms("/a")) == [("/a", 1), ("/a", 3)]
    assert routes.match("DELETE", forms("/a")) == [("/a", 3)]


@given(st.text(max_size=300))
def test_no_path_is_too_strange(text):
    """Any text is judged without an error."""
    PathRules(["/v1/*", "/x"]).match(forms("/" + text))


@given(st.lists(st.sampled_from(["", ".", "..", "v1", "%2e%2e", "health", "%2F"]), max_size=8))
def test_what_resolves_into_a_guarded_path_is_guarded(segments):
    """Brute force over segments: where the resolved path is guarded, so is every spelling of it."""
    path = "/" + "/".join(segments)
    kept: list[str] = []
    for segment in path.replace("%2F", "/").replace("%2e", ".").split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    if kept[:1] == ["v1"]:
        assert PathRules(["/v1/*"]).match(forms(path)) == "/v1/*"
