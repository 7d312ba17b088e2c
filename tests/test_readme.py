"""What the README and the guide say is run: policies, code, tests, command lines, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mobius_otel.cli.main import _parser
from mobius_otel.policy import load_policy

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "quick-start.md", ROOT / "docs" / "demo.md", ROOT / "docs" / "metrics.md",
         ROOT / "docs" / "redaction.md",
         ROOT / "examples" / "many_workers" / "README.md",
         ROOT / "examples" / "shop_fastapi" / "README.md", ROOT / "examples" / "shop_flask" / "README.md"]  # fmt: skip
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+?)\)")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page, in one language."""
    return [text for found, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def commands(page: Path) -> list[str]:
    """Every command line of a page that starts our command."""
    lines = [line.split("#")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&|(?<!\S)\|(?!\S)", line)]
    return [part for part in parts if re.match(r"(\S*/)?mobius-otel ", part)]


def test_the_readmes_code_and_test_work_as_they_stand(telemetry):
    """The snippet under "Use it in code" runs, and the snippet under "Assert in tests" passes with it."""
    code, test = blocks(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    exec(compile(test, "README.md", "exec"), names)

    names["test_a_refund_is_audited_and_hides_the_card"](telemetry)  # type: ignore[operator]


def test_the_readmes_code_refuses_what_it_says_it_refuses():
    """A key without the scope, a key that nobody issued, and the hundred-and-first call."""
    from mobius_otel import InsufficientScope, InvalidApiKey

    names: dict[str, object] = {}
    exec(compile(blocks(ROOT / "README.md", "python")[0], "README.md", "exec"), names)
    refund, keys = names["refund"], names["keys"]

    with pytest.raises(InvalidApiKey):
        refund("nonsense", "order-1", "")
    with pytest.raises(InsufficientScope):
        refund(keys.issue("bob", scopes={"read"}).secret, "order-1", "")
    secret = keys.issue("alice", scopes={"refund"}).secret
    for _ in range(100):
        refund(secret, "order-1", "")
    with pytest.raises(RuntimeError, match="too fast; again in"):
        refund(secret, "order-1", "")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.name)
def test_every_policy_in_the_pages_is_good(page, tmp_path):
    """What a reader copies is a policy that breaks no rule."""
    for number, text in enumerate(blocks(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        policy = load_policy(file)
        assert policy is not None
        assert policy.wants_keys or "[api_keys]" not in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_command_line_in_the_pages_exists(page):
    """Each `mobius-otel …` of a page is one that the command line takes."""
    found = commands(page)
    assert found
    for line in found:
        args = _parser().parse_args(shlex.split(line)[1:])
        assert callable(args.run), line


@pytest.mark.parametrize("page", sorted({*PAGES, *ROOT.glob("docs/*.md")}), ids=lambda page: page.name)
def test_every_command_within_a_sentence_exists(page, capsys):
    """Each `mobius-otel …` between backticks is taken as it stands; only what a sentence leaves out may be missing."""
    for line in re.findall(r"`(mobius-otel [^`]+)`", page.read_text(encoding="utf-8")):
        try:
            _parser().parse_args(shlex.split(re.split(r" [|<>] ", line)[0])[1:])
        except SystemExit:
            assert "the following arguments are required" in capsys.readouterr().err, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_in_the_pages_leads_somewhere(page):
    """Relative links and pictures are files of the project."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_first_screen_stands_in_the_readme():
    """Install, issue a key, run: the three lines that everything else follows."""
    screen = [
        "pip install 'mobius_otel[all]'",
        "mobius-otel keys issue alice --scope read",
        "mobius-otel run -- uvicorn shop:app",
    ]

    assert "\n".join(screen) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_is_the_output_of_a_good_demo():
    """The picture shows a demo in which everything was as it should be, and no key."""
    picture = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")

    assert "Everything was as it should be" in picture
    assert "✗" not in picture
    assert not re.search(r"mob_live_\w{10}", picture)
