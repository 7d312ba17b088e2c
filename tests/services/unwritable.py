"""A ledger whose database refuses every write, and whose tail is closed for that: what each record then meets."""

from collections.abc import Callable

from mobius_otel.telemetry.audit import Ledger


def unwritable(ledger: Ledger) -> Callable[[], None]:
    """Make every write of `ledger` fail, until the returned function is called."""
    ledger.flush()

    def read_only(on: bool) -> None:
        with ledger._file.lock, ledger._file.reading() as connection:
            connection.execute(f"PRAGMA query_only = {on:d}")

    read_only(True)
    ledger._failing = True  # as the first try to bring something in would have it
    return lambda: read_only(False)
