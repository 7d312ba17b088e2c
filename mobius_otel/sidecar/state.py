"""What the sidecar keeps over a restart: a journal of what was merged, written before a report is acknowledged.

Each line is JSON and stands for itself. A line is in the file when ``write()`` returns, so that it survives
the end of the process (a power cut may cost the newest ones; the workers' sums bring back what they counted).
When the journal has grown far beyond what it tells, it is written anew.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import logging
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from mobius_otel.errors import ConfigurationError
from mobius_otel.sidecar.merge import Export, Merged, MetricKey, Series, Worker

__all__ = ["Journal"]

_VERSION: Final = 1
_RETRY_SECONDS: Final = 10.0
_log = logging.getLogger("mobius_otel")


class Journal:
    """The state file of one sidecar.

    Args:
        path: The file; made with mode 0600 where there is none.
        merged: What it tells of; filled from the file.
        compact_at: How many bytes are written before the file is written anew.

    Raises:
        ConfigurationError: The file is no state file, is damaged, cannot be opened, or another sidecar has it.
    """

    def __init__(self, path: str | os.PathLike[str], merged: Merged, *, compact_at: int = 64 << 20) -> None:
        self.path = Path(path)
        self._merged = merged
        self._compact_at = compact_at
        self._written = self._compacted = 0
        self._series = 0
        self._failed_at: float | None = None
        #: The service's name.
        self.service = ""
        self._file = self._open()
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> BinaryIO:
        try:
            file = _opened(self.path, 0)
        except OSError as error:
            raise self._error(f"cannot be opened ({type(error).__name__})") from None
        if not _lock(file):
            file.close()
            raise self._error("another sidecar has it")
        return file

    def _error(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            "--state", str(self.path), "the state file of this sidecar alone", f"{what}; name another one, or move it."
        )

    # --- reading --------------------------------------------------------------------------------------------

    def _load(self) -> None:
        whole = 0
        self._file.seek(0)
        for number, line in enumerate(_lines(self._file)):
            if not line.endswith(b"\n"):
                break  # the process ended while it was written, and never acknowledged it
            try:
                self._read(number, json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                raise self._error(f"line {number + 1} cannot be read") from None
            whole += len(line)
        if whole < os.fstat(self._file.fileno()).st_size:
            self._file.truncate(whole)
        self._written = whole
        self._series = len(self._merged.series)
        if not whole:
            self._append([self._first()])

    def _read(self, number: int, line: Any) -> None:
        merged = self._merged
        if number == 0:
            if line["mobius_otel_sidecar"] != _VERSION:
                raise ValueError
            self.service, merged.resource, merged.forgotten = line["service"], line["resource"], line["forgotten"]
        elif "series" in line:
            for scope, version, name, unit, kind, description, attributes, *rest in line["series"]:
                own = {key: tuple(v) if isinstance(v, list) else v for key, v in attributes.items()}
                found = merged.find(MetricKey(scope, version, name, unit, kind), description, own)
                if found is not None and rest:
                    found.total, bounds, found.counts = rest
                    found.bounds = None if bounds is None else tuple(bounds)
        elif "state" in line:
            worker = _restored(line["state"])
            merged.workers[worker.name] = worker
        else:
            if "service" in line:
                self.service, merged.resource = line["service"], line["resource"]
            export = Export(line["worker"], line["numbers"], line["levels"], line["histograms"])
            merged.apply(export, line["time"])

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, export: Export, now: float, service: str) -> None:
        """Write down what was merged; under the lock of what is merged. Never raises: a full disk stops no page.

        Args:
            export: What was news in a report.
            now: When, in seconds since the epoch.
            service: The service's name.
        """
        lines: list[Any] = []
        if new := self._merged.series[self._series :]:
            lines.append({"series": [_identity(self._merged, each) for each in new]})
        line: dict[str, Any] = {
            "time": now, "worker": export.worker,
            "numbers": export.numbers, "levels": export.levels, "histograms": export.histograms,
        }  # fmt: skip
        if service != self.service:
            self.service = service
            line |= {"service": service, "resource": self._merged.resource}
        lines.append(line)
        if self._failed_at is not None and now - self._failed_at < _RETRY_SECONDS:
            return
        try:
            if self._failed_at is not None or self._written > self._compact_at + 4 * self._compacted:
                self.compact()
            else:
                self._append(lines)
                self._series = len(self._merged.series)
        except OSError as error:
            if self._failed_at is None:
                _log.error(
                    "mobius_otel: the sidecar cannot write %s (%s): its counters would not survive a restart now",
                    self.path, error.strerror,
                )  # fmt: skip
            self._failed_at = now

    def _append(self, lines: list[Any]) -> None:
        data = b"".join(_encoded(line) for line in lines)
        done = self._file.write(data)
        if done != len(data):  # a full disk takes a part: what is torn must not stand in the middle
            with contextlib.suppress(OSError):
                self._file.truncate(self._written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += done

    def compact(self) -> None:
        """Write the whole state anew, and put it in the place of the journal at once.

        Raises:
            OSError: It cannot be written; the journal is as it was.
        """
        merged = self._merged
        new = self.path.with_name(self.path.name + ".new")
        file = _opened(new, os.O_TRUNC)
        size = 0
        try:
            _lock(file)
            for line in self._whole():
                data = _encoded(line)
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                size += len(data)
            os.fsync(file.fileno())
            os.replace(new, self.path)
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        self._file.close()
        self._file = file
        self._written = self._compacted = size
        self._series = len(merged.series)
        if self._failed_at is not None:
            _log.warning("mobius_otel: the sidecar writes %s again", self.path)
        self._failed_at = None

    def _whole(self) -> Iterator[Any]:
        merged = self._merged
        yield self._first()
        for begin in range(0, len(merged.series), 1000):
            part = merged.series[begin : begin + 1000]
            yield {"series": [[*_identity(merged, s), s.total, s.bounds, s.counts] for s in part]}
        for worker in merged.workers.values():
            yield {"state": _kept(worker)}

    def _first(self) -> dict[str, Any]:
        return {
            "mobius_otel_sidecar": _VERSION, "service": self.service,
            "resource": self._merged.resource, "forgotten": self._merged.forgotten,
        }  # fmt: skip

    def close(self) -> None:
        """Write the state anew and let the file go."""
        with contextlib.suppress(OSError):
            self.compact()
        self._file.close()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := file.read(1 << 20):
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _opened(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o600), "r+b", buffering=0)


def _lock(file: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: a second sidecar fails at the port
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _encoded(line: Any) -> bytes:
    return json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"


def _identity(merged: Merged, series: Series) -> list[Any]:
    key = series.metric
    description = merged.descriptions[key]
    return [key.scope, key.version, key.name, key.unit, key.kind, description, series.attributes]


def _kept(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.name, "since": worker.since, "seen": worker.seen, "gap": worker.gap,
        "starts": base64.b64encode(worker.starts.tobytes()).decode(),
        "lasts": base64.b64encode(worker.lasts.tobytes()).decode(),
        "levels": [[number, *level] for number, level in worker.levels.items()],
        "histograms": [[*key, *state] for key, state in worker.histograms.items()],
        "superseded": [[*key, last] for key, last in worker.superseded.items()],
        "delta_times": list(worker.delta_times.items()),
    }  # fmt: skip


def _restored(data: dict[str, Any]) -> Worker:
    worker = Worker(data["name"], data["since"])
    worker.seen, worker.gap = data["seen"], data["gap"]
    worker.starts = array("Q", base64.b64decode(data["starts"]))
    worker.lasts = array("d", base64.b64decode(data["lasts"]))
    worker.levels = {number: (time, value) for number, time, value in data["levels"]}
    worker.histograms = {
        (number, start): (tuple(bounds), tuple(counts), total)
        for number, start, bounds, counts, total in data["histograms"]
    }
    worker.superseded = {(number, start): last for number, start, last in data["superseded"]}
    worker.delta_times = dict(data["delta_times"])
    return worker
