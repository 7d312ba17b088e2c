"""What the doctor says about audit: what would not be recorded, and what would not be kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, Literal

import wrapt

from mobius_otel.cli.common import why_not_imported
from mobius_otel.errors import MobiusError
from mobius_otel.instrumentation.unseen import why_unseen
from mobius_otel.policy import Policy
from mobius_otel.telemetry.audit.settings import exporter_from_environment, settings_from_environment
from mobius_otel.web.recorder import find_function

__all__ = ["audit_findings", "file_system"]

Verdict = Literal["ok", "warn", "fail"]
#: File systems without the shared memory that SQLite's write-ahead log needs between processes.
_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs", "ceph", "glusterfs"}
)


def audit_findings(policy: Policy) -> list[tuple[str, Verdict, str]]:
    """Return what was found: what was looked at, the verdict, and the text; functions that are timed stand here too."""
    section = policy.audit
    found: list[tuple[str, Verdict, str]] = []
    if section.ledger is not None:
        kind = file_system(policy.beside(section.ledger))
        if kind in _REMOTE:
            found.append(
                ("audit ledger's disk", "fail", f"{kind}: SQLite needs a local one; two hosts need two ledgers")
            )
        found.append(_shipping(section.durability))
    wrapped = [
        *(("audited function", target) for target in section.functions),
        *(("timed function", spec.target) for spec in policy.instrument),
    ]
    unseen = {target: _watched(target) for _, target in wrapped}  # before one of them imports another one's module
    if section.actor is not None:
        found.append(("audit actor", *_importable(section.actor)))
    for name, target in wrapped:
        verdict, text = _importable(target)
        why = next(filter(None, unseen[target]), None) if verdict == "ok" else None
        found.append((name, verdict, text) if why is None else (name, "warn", f"{text}: calls may pass unseen: {why}"))
    return found


def _watched(target: str) -> list[str | None]:
    """Return a list that holds, once the module is imported, why calls of a function would pass unseen."""
    module, _, name = target.partition(":")
    found: list[str | None] = []
    wrapt.register_post_import_hook(lambda imported: found.append(why_unseen(imported, name)), module)
    return found


def _shipping(durability: str) -> tuple[str, Verdict, str]:
    try:
        exporter = exporter_from_environment()
        settings = None if exporter is not None else settings_from_environment()
    except MobiusError as error:
        return "audit shipping", "fail", str(error)
    if exporter is not None:
        return "audit shipping", "ok", f"by the exporter {os.environ.get('OTEL_LOGS_EXPORTER', '')}"
    if settings is not None:
        return "audit shipping", "ok", f"to {settings.host}, {settings.protocol}"
    if durability == "sink":
        return "audit shipping", "fail", 'durability = "sink" waits for a collector: set OTEL_EXPORTER_OTLP_ENDPOINT'
    return "audit shipping", "warn", "nowhere: records stay in the ledger; set OTEL_EXPORTER_OTLP_ENDPOINT"


def _importable(target: str) -> tuple[Verdict, str]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = find_function(target)
    except Exception as error:  # whatever a service's module does when it is imported
        return "fail", f"{target}: {why_not_imported(error)}"
    return ("ok", target) if callable(function) else ("fail", f"{target} is no function")


def file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on, or an empty text where that cannot be told."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, place, type_, *_ = [*line.split(), "", "", ""]
        place = place.replace("\\040", " ")
        inside = str(path).startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, type_
    return kind
