"""A slow network: a proxy between a client and a server that passes everything on, late."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Self


class SlowProxy:
    """Passes what comes on to a server.

    Args:
        server: Host and port.
        delay: Seconds that every piece of an answer waits; can be changed at any time.
        drip: Whether answers come byte by byte, each after the delay.
        tls: With it clients have to speak TLS, which ends here.
    """

    def __init__(
        self, server: tuple[str, int], delay: float = 0.0, *, drip: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.delay = delay
        self.drip = drip
        self.connections = 0
        self._server = server
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                if self._tls is not None:
                    try:
                        client = self._tls.wrap_socket(client, server_side=True)
                    except OSError:  # it does not trust us
                        client.close()
                        continue
                server = socket.create_connection(self._server)
                self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, late: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                pieces = [bytes([byte]) for byte in data] if late and self.drip else [data]
                for piece in pieces:
                    if late and self.delay:
                        time.sleep(self.delay)
                    sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End every connection."""
        open_, self._open = self._open, []
        for end in open_:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
