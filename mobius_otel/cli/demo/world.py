"""The demo's world: a folder, a collector, a service, a command line; all of it gone when it is left."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mobius_otel.cli.demo.process import HOST, deaf, end, free_ports, is_up, listens, start, wait
from mobius_otel.cli.demo.received import Received, read_lines, read_rotel
from mobius_otel.errors import ConfigurationError

__all__ = ["Answer", "DemoFailed", "Secrets", "World", "beside_python", "find_rotel", "find_shop", "need_packages"]

_START_SECONDS = 30.0
_COMMAND_SECONDS = 60.0
_STOP_SECONDS = 8.0
_STRANGERS = ("OTEL_", "MOBIUS_OTEL_", "ROTEL_", "SHOP_")
_TRIES = 3


class DemoFailed(Exception):
    """Something of the demo's world did not start or did not answer; the text says what and shows its log."""


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What must not be found anywhere: made up anew for each run.

    Args:
        pepper: The key store's pepper.
        password: A customer's password, which a client sends in a body.
        database: The password in the shop's database URL, which stands in the text of an exception.
        card: A card number as a client writes it; the well-known test number.
    """

    pepper: str
    password: str
    database: str
    card: str = "4111 1111 1111 1111"

    @classmethod
    def make(cls) -> Secrets:
        """Return new ones."""
        return cls(secrets.token_hex(24), f"Tr0ub4dor-{secrets.token_hex(6)}", f"dbpw{secrets.token_hex(8)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the service."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first field of that name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without_date(self) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """Return the answer as it is compared with another."""
        return self.status, tuple(pair for pair in self.headers if pair[0].lower() != "date"), self.body


def find_shop() -> Path:
    """Return the folder of the example service: inside an installed package, or in a clone's ``examples/``.

    Raises:
        ConfigurationError: Neither is there.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "_shop", here.parents[3] / "examples" / "shop_fastapi"):
        if (folder / "shop.py").is_file():
            return folder
    raise ConfigurationError(
        "demo", "examples/shop_fastapi", "in the wheel or beside the package", "Install mobius_otel again."
    )


def find_rotel() -> Path | None:
    """Return the collector's program, or None where its wheel is not installed."""
    found = find_spec("rotel")
    if found is None or found.origin is None:
        return None
    program = Path(found.origin).parent / ("rotel-agent.exe" if os.name == "nt" else "rotel-agent")
    return program if program.is_file() and os.access(program, os.X_OK) else None


def beside_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which rotel finds the shared library of this Python.

    Its program is linked with that and looks for it in the system's folders: not where pyenv, conda or uv put it.

    Args:
        environment: The environment without that.
    """
    folders = [environment.get("LD_LIBRARY_PATH", ""), str(Path(sys.base_prefix) / "lib")]
    return {**environment, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))}


def need_packages() -> None:
    """Say what is missing before anything is started.

    Raises:
        ConfigurationError: A package that the demo drives is not installed.
    """
    needed = {
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.exporter.prometheus": "opentelemetry-exporter-prometheus",
        "opentelemetry.instrumentation.fastapi": "opentelemetry-instrumentation-fastapi",
    }
    missing = [package for module, package in needed.items() if not _is_there(module)]
    if missing:
        raise ConfigurationError(
            "demo", ", ".join(missing), "installed", "Run: pip install 'mobius_otel[all,demo]'"
        )  # fmt: skip


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one of its parents
        return False


class World:
    """Everything that the demo starts. A context manager; on its way out it ends what it started.

    Args:
        secrets_: What the demo hides and looks for.
        collector: ``rotel``, ``builtin``, or ``auto``: the first where it can be had, else the second.

    Attributes:
        folder: Where policy, key store, ledger and logs are.
        collector: Which collector it became.
        remark: Why it is the built-in one, or empty.
    """

    def __init__(self, secrets_: Secrets, collector: str = "auto") -> None:
        self.secrets = secrets_
        self.collector = collector
        self.remark = ""
        self.endpoint = ""
        self.grpc_endpoint = ""
        self.port = 0
        self._children: list[subprocess.Popen[bytes]] = []
        self._service: subprocess.Popen[bytes] | None = None
        self._keeper = tempfile.TemporaryDirectory(prefix="mobius-otel-demo-", ignore_cleanup_errors=True)
        self.folder = Path(self._keeper.name)

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def collector_log(self) -> Path:
        """What the collector prints."""
        return self.folder / "collector.log"

    @property
    def service_log(self) -> Path:
        """What the service prints."""
        return self.folder / "service.log"

    @property
    def ledger(self) -> Path:
        """The audit ledger that the policy names."""
        return self.folder / "audit.db"

    # --- the collector --------------------------------------------------------------------------------------

    def start_collector(self) -> None:
        """Start rotel, or what stands in for it.

        Raises:
            DemoFailed: Neither starts.
        """
        if self.collector != "builtin":
            problem = self._start_rotel()
            if not problem:
                self.collector = "rotel"
                return
            if self.collector == "rotel":
                raise DemoFailed(problem)
            self.remark = problem
        self.collector = "builtin"
        self._start_builtin()

    def _start_rotel(self) -> str:
        """Start rotel; return what was wrong, or an empty text."""
        program = find_rotel()
        if program is None:
            return "rotel is not installed (it has no wheel for every platform)"
        for _ in range(_TRIES):  # between choosing a port and using it, somebody else may take it
            http_port, grpc_port = free_ports(2)
            self.endpoint, self.grpc_endpoint = f"http://{HOST}:{http_port}", f"http://{HOST}:{grpc_port}"
            command = [
                str(program), "start", "--exporter", "blackhole",
                "--otlp-http-endpoint", f"{HOST}:{http_port}", "--otlp-grpc-endpoint", f"{HOST}:{grpc_port}",
                "--debug-log", "traces", "--debug-log", "logs", "--debug-log", "metrics",
                "--debug-log-verbosity", "detailed",
                "--pid-file", str(self.folder / "rotel.pid"), "--log-file", str(self.folder / "rotel.log"),
            ]  # fmt: skip
            try:
                child = self._start(command, self.collector_log, beside_python(self.environment()))
            except OSError as error:
                return f"rotel does not start: {error.strerror or error}"
            if is_up(child, functools.partial(listens, http_port), _START_SECONDS):
                return ""
            self._end(child)
        return "rotel does not start here"

    def _start_builtin(self) -> None:
        child = self._start([sys.executable, "-m", "mobius_otel.cli.demo.receiver"], self.collector_log)
        if not is_up(child, lambda: self._builtin_endpoint() != "", _START_SECONDS):
            raise DemoFailed(_with_log("the built-in receiver does not start", self.collector_log))
        self.endpoint = self._builtin_endpoint()

    def _builtin_endpoint(self) -> str:
        for line in _text(self.collector_log).split("\n")[:-1]:
            with contextlib.suppress(ValueError):
                return str(json.loads(line).get("listening", ""))
        return ""

    def received(self) -> Received:
        """Return what has arrived at the collector until now."""
        text = _text(self.collector_log)
        return read_rotel(text) if self.collector == "rotel" else read_lines(text)

    # --- the service ----------------------------------------------------------------------------------------

    def write_service(self) -> None:
        """Put the example service and its policy into the folder."""
        for name in ("shop.py", "mobius.toml"):
            shutil.copyfile(find_shop() / name, self.folder / name)

    def start_service(self) -> None:
        """Start the shop under ``mobius-otel run``, and wait until it answers.

        Raises:
            DemoFailed: It ends, or does not answer.
        """
        for attempt in range(_TRIES):
            (self.port,) = free_ports(1)
            command = [
                sys.executable, "-m", "mobius_otel", "run", "--",
                sys.executable, "-m", "uvicorn", "shop:app", "--host", HOST, "--port", str(self.port),
            ]  # fmt: skip
            child = self._service = self._start(command, self.service_log)
            if is_up(child, self._answers, _START_SECONDS):
                return
            taken = "address already in use" in _text(self.service_log).lower()
            if not taken or attempt == _TRIES - 1:
                text = f"the service does not start (status {child.poll()})"
                raise DemoFailed(_with_log(text, self.service_log))
            self._end(child)

    def stop_service(self) -> None:
        """Let the service end by itself, so that it sends what it has left to send."""
        if self._service is not None:
            self._end(self._service)
            self._service = None
            wait(lambda: not listens(self.port), _STOP_SECONDS)  # on Windows the launcher ends before the service

    def broken(self) -> str:
        """Return what has ended although nobody asked it to, or an empty text."""
        for child in self._children:
            if child.poll() is not None:
                what = "the service" if child is self._service else "the collector"
                return f"{what} ended with status {child.returncode}"
        return ""

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/health", timeout=1.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = 10.0,
    ) -> Answer:
        """Send one request to the service.

        Args:
            method: The HTTP method.
            path: The path with its query.
            headers: Header fields.
            body: What to send as JSON; None: nothing.
            timeout: Seconds.

        Raises:
            OSError: Nobody answers.
        """
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            connection.close()

    # --- the command line -----------------------------------------------------------------------------------

    def command(self, *arguments: str) -> tuple[int, Any]:
        """Run ``mobius-otel`` with `arguments` and ``--json``, as an operator would.

        Returns:
            The exit status and what it printed, read as JSON: one value, or a list of one value a line.

        Raises:
            DemoFailed: It failed, or printed something else.
        """
        name = "mobius-otel " + " ".join(arguments[:2])
        try:
            done = subprocess.run(
                [sys.executable, "-m", "mobius_otel", *arguments, "--json"],
                cwd=self.folder, env=self.environment(), capture_output=True, text=True, encoding="utf-8",
                errors="replace", timeout=_COMMAND_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(f"{name} took longer than {_COMMAND_SECONDS:.0f} s") from error
        try:
            lines = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
        except ValueError:
            lines = []
        if done.returncode not in {0, 1} or not lines:
            raise DemoFailed(f"{name} failed with status {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.returncode, lines[0] if len(lines) == 1 else lines

    def environment(self) -> dict[str, str]:
        """Return the environment of everything that is started: the caller's, without its telemetry settings."""
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(_STRANGERS)}
        direct = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY", ""), HOST, "localhost"]))
        return kept | {
            "NO_PROXY": direct,
            "no_proxy": direct,
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MOBIUS_OTEL_KEY_PEPPER": self.secrets.pepper,
            "SHOP_DATABASE_URL": f"postgresql://shop:{self.secrets.database}@db.internal:5432/shop",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    # --- starting and ending --------------------------------------------------------------------------------

    def _start(
        self, command: list[str], output: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        child = start(command, output, self.folder, environment or self.environment())
        self._children.append(child)
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if child in self._children:
            self._children.remove(child)
        end(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with deaf():  # a second Ctrl-C must not leave processes behind
            self.stop_service()
            for child in list(self._children):
                self._end(child)
            self._keeper.cleanup()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _with_log(text: str, path: Path) -> str:
    lines = _text(path).strip().splitlines()[-15:]
    return text + (":\n  " + "\n  ".join(lines) if lines else "")
