"""The audit events of this service: what they are called, what they may say, what others call them.

mobius-otel audit events events            a table
mobius-otel audit events events --markdown a page for the documentation
"""

from __future__ import annotations

from mobius_otel import register_event

REFUND = register_event(
    "payment.refund",
    meaning="Money went back to a customer.",
    action="UPDATE",
    attributes={"amount": float, "currency": ["EUR", "USD"], "card": str},
    required=["amount", "currency"],
    risk=60,
    owasp="sensitive_update",
    ocsf=600303,
)
EXPORT = register_event(
    "customer.export",
    meaning="Customers' data left the service.",
    action="READ",
    attributes={"rows": int},
    risk=80,
    owasp="sensitive_read",
    ocsf=600302,
)
