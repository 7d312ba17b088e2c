"""Security headers: set where there is none."""

from mobius_otel.web.headers import SecurityHeaders


def test_what_the_service_sets_stays():
    """Only what is absent is added."""
    added = dict(SecurityHeaders("api").missing(["x-frame-options"], https=True))
    assert "x-frame-options" not in added
    assert added["strict-transport-security"] == "max-age=63072000; includeSubDomains"
    assert added["content-security-policy"].startswith("default-src 'none'")


def test_hsts_needs_https():
    """RFC 6797: not over plain HTTP."""
    assert "strict-transport-security" not in dict(SecurityHeaders("api").missing([], https=False))


def test_pages_of_an_api_keep_working():
    """Interactive documentation loads scripts."""
    assert (
        dict(SecurityHeaders("api").missing([], https=False, html=True))["content-security-policy"]
        == "frame-ancestors 'none'"
    )


def test_overrides_replace_add_and_leave_out():
    """A text replaces, an empty one leaves out, another header is added."""
    added = dict(
        SecurityHeaders("web", {"X-Frame-Options": "", "X-Extra": "1", "Referrer-Policy": "origin"}).missing(
            [], https=False
        )
    )
    assert "x-frame-options" not in added
    assert (added["x-extra"], added["referrer-policy"]) == ("1", "origin")
    assert SecurityHeaders("off").missing([], https=True) == []
