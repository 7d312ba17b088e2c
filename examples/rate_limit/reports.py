"""A function that may be called ten times a minute by each customer, and what happens around the edge.

python examples/rate_limit/reports.py
"""

from __future__ import annotations

from mobius_otel import RateLimiter, RateLimitExceeded

limiter = RateLimiter(["5/second", "10/minute"], name="reports")


@limiter.limit(key=lambda customer, **_: customer)
def report(customer: str, *, pages: int = 1) -> str:
    return f"{pages} pages for {customer}"


def main() -> None:
    made = 0
    try:
        while True:
            report("ann")
            made += 1
    except RateLimitExceeded as refused:
        decision = refused.decision
        print(f"ann made {made} reports and may go on in {decision.retry_after:.1f} s")
        print(f"the limit that refused: {decision.limit} in {decision.window:g} s")
        for name, value in decision.headers().items():
            print(f"    {name}: {value}")

    print(f"bob is somebody else: {report('bob')}")

    limiter.override("carol", "1000/minute")  # a big customer
    print(f"carol made {sum(limiter.allow('carol') for _ in range(2000))} reports")

    decision = limiter.acquire("dave", cost=4)  # four pages, of which none was printed
    limiter.refund(decision)
    print(f"dave has {limiter.peek('dave').remaining} of {limiter.peek('dave').limit} left")

    print(f"denied most: {limiter.top(1)[0][1]} times, a customer that no telemetry names")


if __name__ == "__main__":
    main()
