"""Tasks that wait for their turn: twelve pages of two hosts, at most four a second from each.

python examples/rate_limit/crawl.py
"""

from __future__ import annotations

import asyncio
import time

from mobius_otel import RateLimiter

limiter = RateLimiter("4/1 second", name="crawl")


async def fetch(host: str, page: int, start: float) -> None:
    await limiter.wait_async(host)  # in the order in which they came; nobody asks in between
    print(f"{time.monotonic() - start:5.2f} s  {host}/{page}")


async def main() -> None:
    start = time.monotonic()
    await asyncio.gather(*[fetch(host, page, start) for page in range(6) for host in ("a.example", "b.example")])
    impatient = await limiter.wait_async("a.example", cost=4, timeout=0.1)
    print(f"four more at once within 0.1 s: {'yes' if impatient else 'no'}, in {impatient.retry_after:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
