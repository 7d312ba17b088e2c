"""Which server a subject is counted by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.backends.valkey.breaker import Breaker
from mobius_otel.security.rate_limit.backends.valkey.calls import probe_call
from mobius_otel.security.rate_limit.backends.valkey.dialing import Dialer
from mobius_otel.security.rate_limit.backends.valkey.link import Call, Link, Redirected, ServerGone, Unhurried
from mobius_otel.security.rate_limit.backends.valkey.urls import Address

__all__ = ["ClusterRoute", "OneServer", "Route", "open_route"]

SLOTS = 16384


class Route(Protocol):
    """Finds the server of a subject and asks it."""

    def ask(self, stem: bytes, call: Call, now: float) -> Any:
        """Ask the server of a subject.

        Args:
            stem: The subject's name.
            call: What is asked.
            now: When it began, by the monotonic clock.

        Raises:
            ServerGone: No answer came within the deadline, or an error did.
        """
        ...

    async def ask_async(self, stem: bytes, call: Call, now: float) -> Any:
        """Do what :meth:`ask` does without blocking the loop."""
        ...

    def answers(self) -> bool:
        """Return whether every server that was used can be asked."""
        ...

    def check(self) -> None:
        """Ask every server whether it can count; raise what went wrong."""
        ...

    def links(self) -> list[Link]:
        """Return every way that was used."""
        ...


def open_route(dialer: Dialer, deadline: float) -> Route:
    """Return the route of what a dialer reaches.

    Args:
        dialer: Who opens connections.
        deadline: Seconds that a call may take.
    """
    return ClusterRoute(dialer, deadline) if dialer.target.kind == "cluster" else OneServer(dialer, deadline)


class OneServer:
    """One server holds every key: a single one, or whoever sentinels say is the primary.

    Args:
        dialer: Who opens connections.
        deadline: Seconds that a call may take.
    """

    def __init__(self, dialer: Dialer, deadline: float) -> None:
        self._link = Link(
            partial(dialer.open, None),
            partial(dialer.open_async, None),
            deadline,
            lambda link: link.tried(probe_call(0)),
        )

    def ask(self, stem: bytes, call: Call, now: float) -> Any:  # noqa: ARG002
        """Ask the server."""
        try:
            return self._link.ask(call, now)
        except Redirected:  # the URL names one server, and that is part of a cluster
            raise ServerGone("NotASingleServer") from None

    async def ask_async(self, stem: bytes, call: Call, now: float) -> Any:  # noqa: ARG002
        """Ask the server without blocking the loop."""
        try:
            return await self._link.ask_async(call)
        except Redirected:
            raise ServerGone("NotASingleServer") from None

    def answers(self) -> bool:
        """Return whether the server can be asked."""
        return self._link.breaker.why is None

    def check(self) -> None:
        """Ask the server whether it can count; raise what went wrong."""
        self._link.tried(probe_call(0))

    def links(self) -> list[Link]:
        """Return the way to the server."""
        return [self._link]


class ClusterRoute:
    """Each key lies with the node that owns its slot.

    Who owns what is asked of any node at the first call, learned from redirections, and asked again whenever a
    node is lost: where a replica has taken its slots, that one is asked from then on.

    Args:
        dialer: Who opens connections; its target's addresses are where to begin.
        deadline: Seconds that a call may take.
    """

    def __init__(self, dialer: Dialer, deadline: float) -> None:
        self._dialer = dialer
        self._deadline = deadline
        self._slot: Callable[[bytes], int] = import_module("valkey.crc").key_slot
        self._owners: list[Address | None] = [None] * SLOTS
        self._links: dict[Address, Link] = {}
        self._breaker = Breaker(self._discover)
        self._lock = threading.Lock()
        on_fork(self)

    def ask(self, stem: bytes, call: Call, now: float) -> Any:
        """Ask the node that owns the slot of a subject."""
        link = self._link(stem, now)
        try:
            return link.ask(call, now)
        except Redirected as answer:
            link, once = self._redirected(stem, link, answer), answer.once
        try:
            return link.ask(call, now, asking=once)
        except Redirected:
            raise ServerGone("RedirectedTwice") from None

    async def ask_async(self, stem: bytes, call: Call, now: float) -> Any:
        """Ask the node that owns the slot of a subject without blocking the loop."""
        known = self._owners[self._slot(stem)] is not None
        link = self._link(stem, now) if known else await asyncio.to_thread(self._link, stem, now)
        try:
            return await link.ask_async(call)
        except Redirected as answer:
            link, once = self._redirected(stem, link, answer), answer.once
        try:
            return await link.ask_async(call, asking=once)
        except Redirected:
            raise ServerGone("RedirectedTwice") from None

    def _link(self, stem: bytes, now: float) -> Link:
        address = self._owners[self._slot(stem)]
        if address is None:
            if self._breaker.why is not None:
                raise ServerGone(self._breaker.why, asked=False)
            try:
                Unhurried(self._discover, lambda _: None).wait(now + self._deadline)
            except Exception as error:
                self._breaker.trip(kind := type(error).__name__)
                raise ServerGone(kind) from None
            address = self._owners[self._slot(stem)]
            if address is None:
                raise ServerGone("SlotNotCovered")
        return self._to(address)

    def _redirected(self, stem: bytes, asked: Link, answer: Redirected) -> Link:
        """Return the way to whom a node named; remember it, where that holds for more than this call."""
        host, port = answer.address
        if not host:
            host = next((address[0] for address, link in self._links.items() if link is asked), "")
        if not answer.once:
            self._owners[self._slot(stem)] = (host, port)
        return self._to((host, port))

    def answers(self) -> bool:
        """Return whether every node that was used can be asked."""
        return self._breaker.why is None and all(link.breaker.why is None for link in self.links())

    def check(self) -> None:
        """Ask every node that owns slots whether it can count; raise what went wrong."""
        self._discover()
        for address in {owner for owner in self._owners if owner is not None}:
            self._to(address).tried(probe_call(self._owners.index(address)))

    def links(self) -> list[Link]:
        """Return the ways to the nodes that were used."""
        return list(self._links.values())

    def _to(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:
            with self._lock:
                link = self._links.get(address)
                if link is None:
                    dial, dial_async = partial(self._dialer.open, address), partial(self._dialer.open_async, address)
                    link = Link(dial, dial_async, self._deadline, partial(self._try, address))
                    self._links[address] = link
        return link

    def _try(self, address: Address, link: Link) -> None:
        """Find out whether a node that was lost is back, or has been relieved."""
        self._discover()
        slot = next((slot for slot, owner in enumerate(self._owners) if owner == address), None)
        if slot is not None:
            link.tried(probe_call(slot))
        else:
            with self._lock:
                self._links.pop(address, None)

    def _discover(self) -> bool:
        """Ask the nodes, one after the other, who owns what."""
        error: Exception = ConnectionError()
        lost = {address for address, link in self._links.items() if link.breaker.why is not None}
        known = dict.fromkeys([*self._links, *self._dialer.target.addresses])
        for address in sorted(known, key=lost.__contains__):  # those that answer first
            try:
                connection = self._dialer.open(address)
                try:
                    connection.send_command("CLUSTER", "SLOTS")
                    ranges = connection.read_response()
                finally:
                    connection.disconnect()
            except Exception as failed:
                error = failed
                continue
            owners: list[Address | None] = [None] * SLOTS
            for low, high, (host, port, *_), *_ in ranges:
                owner = ((host or b"").decode() or address[0], int(port))
                owners[int(low) : int(high) + 1] = [owner] * (int(high) + 1 - int(low))
            self._owners = owners
            return True
        raise error

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
