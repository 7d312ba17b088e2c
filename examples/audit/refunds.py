"""Four ways to write an audit event, into a ledger that proves itself whole.

pip install mobius_otel
python refunds.py
mobius-otel audit tail audit.db
mobius-otel audit verify audit.db
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator

from events import EXPORT, REFUND

from mobius_otel import Actor, AuditEvent, AuditHandler, AuditLogger, Ledger, Source, Target

LEDGER = Ledger(sys.argv[1] if len(sys.argv) > 1 else "audit.db")
AUDIT = AuditLogger("payments", ledger=LEDGER)


def refund(user: str, order: str, amount: float, card: str) -> None:
    """One block, one record: success, or failure with the class of the exception."""
    with AUDIT.audited(REFUND.name, actor=Actor(user), target=Target(order, "order")) as a:
        a.attributes.update(amount=amount, currency="EUR", card=card)
        if amount > 1000:
            a.set_risk(90)
        if amount <= 0:
            raise ValueError("nothing to pay back")


@AUDIT.audits(EXPORT.name, actor=lambda user: user, target=Target("customers", "table"))
def export(user: str) -> Iterator[str]:
    """The record is written after the last row; who stops early leaves an outcome that is unknown."""
    yield from (f"{name}, for {user}" for name in ("ann", "eve"))


@AUDIT.audits("newsletter.send", action="CREATE", actor=Actor("newsletter", "service"))
async def send_newsletter() -> None:
    """The same for coroutines."""
    await asyncio.sleep(0)


def main() -> None:
    """Write, and print the receipts' numbers."""
    event = AuditEvent(
        "user.login", "LOGIN", Actor("ann"), outcome="failure", reason="wrong password",
        source=Source("203.0.113.9"), risk_score=50,
    )  # fmt: skip
    receipt = AUDIT.emit(event)
    print(f"record {receipt.sequence} of stream {receipt.stream_id}: it survives the {receipt.durability}")
    print(f"as OCSF: {event.to_ocsf()['type_name']}")

    refund("ann", "order-1", 12.5, "4111 1111 1111 1111")
    refund("ann", "order-2", 1500, "5555 5555 5555 4444")
    try:
        refund("ann", "order-3", 0, "4111 1111 1111 1111")
    except ValueError:
        print("the third refund was refused, and that is recorded too")
    list(export("bob"))
    asyncio.run(send_newsletter())

    log = logging.getLogger("shop")
    log.addHandler(AuditHandler(AUDIT))
    log.warning("limit raised", extra={"audit": {"event_name": "limit.raise", "actor": "carol", "target": "ann"}})
    LEDGER.close()


if __name__ == "__main__":
    main()
