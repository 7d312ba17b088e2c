"""Every check of the project, each as a session: ``nox -s tests-3.12 lint``; ``nox -l`` lists them."""

from __future__ import annotations

import os
import pathlib
import shutil
import tomllib

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.error_on_missing_interpreters = False

HERE = pathlib.Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
DEV = ("-r", "requirements-dev.txt", "-e", ".[all,demo]")
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCTESTS = ("--doctest-modules", "mobius_otel", "--ignore=mobius_otel/autostart")


def _covered(session: nox.Session, *arguments: str) -> None:
    """Run pytest under coverage; the plugin is imported before any plugin of coverage could begin."""
    session.run("coverage", "run", "-m", "pytest", *arguments)


def _report(session: nox.Session) -> None:
    session.run("coverage", "combine", "-q", success_codes=[0, 1])
    session.run("coverage", "xml", "-q", "-o", "coverage.xml")
    session.run("coverage", "report")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on one Python; a Python that is not installed is skipped."""
    session.install(*DEV)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests with branch coverage, subprocesses included; write coverage.xml; below 90 % fails."""
    session.install(*DEV)
    session.run("coverage", "erase")
    _covered(session, *session.posargs)
    _report(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, the floors of the house, types and the workflows."""
    session.install(*DEV)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")
    if shutil.which("actionlint"):  # its package on the Python index downloads a binary: taken where it is there
        session.run("actionlint", external=True)
    else:
        session.log("actionlint is not on PATH; the workflow of the repository runs it")
    session.run("zizmor", "--offline", "--persona", "pedantic", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types alone."""
    session.install(*DEV)
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run every example of the docstrings, the README and the pages, and check the generated pages."""
    session.install(*DEV)
    session.run("python", "-m", "pytest", *DOCTESTS)
    session.run("python", "-m", "pytest", "tests/test_docs.py", "tests/test_readme.py")
    session.run("python", "docs/generate.py", "--check")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo as a user does."""
    session.install("-e", ".[all,demo]")
    session.run("mobius-otel", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run every benchmark."""
    session.install(*DEV)
    for script in sorted((HERE / "benchmarks").glob("*.py")):
        session.run("python", str(script), *session.posargs)


@nox.session
def loss_table(session: nox.Session) -> None:
    """Measure what is lost under each fault, here and by the stock pipeline; write it into docs/audit.md."""
    session.install(*DEV)
    session.run("python", "-m", "tests.services.losses", env={"BURST": os.environ.get("BURST", "100000")})


@nox.session
def kills(session: nox.Session) -> None:
    """Kill two hundred recording processes at random moments, and record a burst of 100,000 events."""
    session.install(*DEV)
    session.run(
        "python", "-m", "pytest", "--timeout", "1800", "tests/telemetry/audit/test_processes.py",
        "tests/telemetry/audit/test_survival.py", "tests/telemetry/audit/test_chaos.py",
        env={"KILLS": "200", "BURST": "100000", "FAULT_SECONDS": "10", "CHAOS_SECONDS": "300"},
    )  # fmt: skip


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests on the oldest dependencies that pyproject.toml allows."""
    session.install("uv")
    extras = PROJECT["optional-dependencies"]
    allowed = [*PROJECT["dependencies"], *(line for name, lines in extras.items() if name != "all" for line in lines)]
    floors = pathlib.Path(session.create_tmp()) / "floors.in"
    floors.write_text("\n".join(allowed), encoding="utf-8")
    pinned = floors.with_suffix(".txt")
    session.run("uv", "pip", "compile", "-q", "--resolution", "lowest-direct", str(floors), "-o", str(pinned))
    session.install("-r", str(pinned), "-r", "requirements-dev.in", "-e", ".")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests on the newest dependencies there are, whatever is pinned."""
    session.install("uv")
    session.run(
        "uv", "pip", "install", "-q", "-r", "requirements-dev.in", "-e", ".[all,imports,demo]", external=True,
        env={"VIRTUAL_ENV": session.virtualenv.location},
    )  # fmt: skip
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Write requirements-dev.txt anew: one set of pins for every Python and platform, told apart by markers."""
    session.install("uv")
    session.run(
        "uv", "pip", "compile", "pyproject.toml", "requirements-dev.in", "--extra", "all", "--extra", "imports",
        "--extra", "demo", "--universal", "--python-version", PYTHONS[0], "--no-header", "--upgrade",
        "-o", "requirements-dev.txt",
    )  # fmt: skip


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel and the source distribution into dist/."""
    session.install("build")
    shutil.rmtree(HERE / "dist", ignore_errors=True)
    session.run("python", "-m", "build", env={"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "1767225600")})
