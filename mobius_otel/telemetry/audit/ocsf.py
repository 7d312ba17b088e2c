"""Audit records as events of OCSF (Open Cybersecurity Schema Framework), for SIEMs and data lakes that speak it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.risk import band
from mobius_otel.telemetry.audit.vocabulary import ACTION_TYPES, OCSF_CLASSES, OTHER_ACTIVITY, is_type_uid
from mobius_otel.telemetry.defaults import version_

__all__ = ["OCSF_VERSION", "ocsf_event"]

#: The version of OCSF that the events say they follow: the first in which every class has an actor and an endpoint.
#: They are valid in later ones too.
OCSF_VERSION: Final = "1.4.0"
_CATEGORIES: Final = {3: "Identity & Access Management", 6: "Application Activity"}
_STATUS: Final = {"success": (1, "Success"), "failure": (2, "Failure")}
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}
_USER_TYPES: Final = {"user": (1, "User"), "system": (3, "System")}
_API_ACTIVITY: Final = 6003
_HOSTNAME = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


def ocsf_event(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an audit record as an OCSF event.

    The class and the activity are those that the event is registered with, else those of its action; what OCSF has
    no field for stands in ``unmapped``.

    Args:
        record: As it leaves the ledger, or is about to go in.

    Raises:
        ValueError: It is no audit record.

    Example:
        >>> from mobius_otel import Actor, AuditEvent, Target
        >>> event = AuditEvent("user.delete", "DELETE", Actor("admin-1"), target=Target("u-2", "user"), risk_score=70)
        >>> made = event.to_ocsf()
        >>> made["type_uid"], made["type_name"], made["severity"], made["resources"]
        (600304, 'API Activity: Delete', 'High', [{'uid': 'u-2', 'type': 'user'}])
    """
    try:
        return _Event(record).whole()
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no audit record: {type(error).__name__}") from error


class _Event:
    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self._left = dict(record["attributes"])
        self._name = str(record["event_name"])
        self._action = str(self._take(conventions.AUDIT_ACTION))
        self._outcome = str(self._take(conventions.AUDIT_OUTCOME))
        uid = self._take(conventions.AUDIT_OCSF)
        known: int = uid if is_type_uid(uid) else ACTION_TYPES.get(self._action, _API_ACTIVITY * 100 + OTHER_ACTIVITY)
        self._class, self._activity = divmod(known, 100)
        self._actor_id, self._actor_type = (
            self._take(conventions.AUDIT_ACTOR_ID),
            self._take(conventions.AUDIT_ACTOR_TYPE),
        )
        self._target_id = self._take(conventions.AUDIT_TARGET_ID)
        self._target_type = self._take(conventions.AUDIT_TARGET_TYPE)
        self._source_id, self._source_type = (
            self._take(conventions.AUDIT_SOURCE_ID),
            self._take(conventions.AUDIT_SOURCE_TYPE),
        )
        self._reason = self._take(conventions.AUDIT_REASON)
        for name in (conventions.CLIENT_ADDRESS, conventions.USER_ID, conventions.ENDUSER_PSEUDO_ID):
            if name in self._left and self._left[name] in (self._source_id, self._actor_id):
                del self._left[name]

    def _take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def whole(self) -> dict[str, Any]:
        title, activities = OCSF_CLASSES[self._class]
        activity = "Other" if self._activity == OTHER_ACTIVITY else ("Unknown", *activities)[self._activity]
        found = band(self._take(conventions.AUDIT_RISK_SCORE) if self._has_risk() else None)
        status, status_name = _STATUS.get(self._outcome, (0, "Unknown"))
        named = self._action.capitalize() if self._activity == OTHER_ACTIVITY else activity
        event: dict[str, Any] = {
            "category_uid": self._class // 1000,
            "category_name": _CATEGORIES[self._class // 1000],
            "class_uid": self._class,
            "class_name": title,
            "activity_id": self._activity,
            "activity_name": named,
            "type_uid": self._class * 100 + self._activity,
            "type_name": f"{title}: {activity}",
            "severity_id": found.ocsf_severity,
            "severity": _SEVERITIES[found.ocsf_severity],
            "status_id": status,
            "status": status_name,
            "time": _milliseconds(self._record["timestamp"]),
            "message": self._message(),
            "actor": self._actor(),
            "src_endpoint": self._source(),
            **self._details(),
            "metadata": self._metadata(),
        }
        if self._reason:
            event["status_detail"] = str(self._reason)
        if error := self._take(conventions.ERROR_TYPE):
            event["status_code"] = str(error)
        if count := self._count():
            event["count"] = count
        return {**event, **({"unmapped": self._left} if self._left else {})}

    def _has_risk(self) -> bool:
        risk = self._left.get(conventions.AUDIT_RISK_SCORE)
        return isinstance(risk, int) and not isinstance(risk, bool)

    def _count(self) -> int | None:
        count = self._left.get(conventions.COUNT)
        return self._take(conventions.COUNT) if isinstance(count, int) and count > 0 else None

    def _message(self) -> str:
        on = f" on {self._target_id}" if self._target_id else ""
        return f"{self._name}: {self._action} by {self._actor_id}{on}: {self._outcome}"

    def _user(self) -> dict[str, Any]:
        number, title = _USER_TYPES.get(str(self._actor_type), (99, "Service"))
        return {"uid": str(self._actor_id), "type_id": number, "type": title}

    def _target_user(self) -> dict[str, Any]:
        """The user that it was done to: the target, else whoever did it."""
        return self._user() if self._target_id is None else {"uid": str(self._target_id)}

    def _actor(self) -> dict[str, Any]:
        return {"user": self._user()}

    def _source(self) -> dict[str, Any]:
        if self._source_id is None:
            return {"name": "unknown"}
        source = str(self._source_id)
        if self._source_type != "hostname":
            return {"ip": source}
        return {"hostname" if len(source) <= 253 and _HOSTNAME.fullmatch(source) else "name": source}

    def _resource(self) -> dict[str, Any]:
        return {"uid": str(self._target_id), **({"type": str(self._target_type)} if self._target_type else {})}

    def _details(self) -> dict[str, Any]:
        """Return what the class demands, and what it recommends where it is known."""
        service = {"name": str(self._record.get("scope") or "unknown")}
        target = {} if self._target_id is None else self._resource()
        if self._class == _API_ACTIVITY:
            resources = {"resources": [target]} if target else {}
            return {"api": {"operation": self._name, "service": service}, **resources}
        if self._class == 3002:
            return {"user": self._user(), "service": service}
        if self._class == 3003:
            return {"user": self._user(), "privileges": self._privileges()}
        if self._class == 3004:
            name = {"name": str(self._target_type)} if self._target_type else {}
            return {"entity": {"uid": str(self._target_id or "unknown"), **name}}
        if self._class == 3005:
            return {"user": self._target_user(), "privileges": self._privileges()}
        if self._class == 3006:
            return {"group": {"uid": str(self._target_id or "unknown")}}
        return {"user": self._target_user()}

    def _privileges(self) -> list[str]:
        scopes = self._take(conventions.API_KEY_SCOPES)
        if isinstance(scopes, list | tuple) and scopes:
            return [str(scope) for scope in scopes]
        return [str(scopes or self._target_id or self._action)]

    def _metadata(self) -> dict[str, Any]:
        record = self._record
        found: dict[str, Any] = {
            "version": OCSF_VERSION,
            "product": {"name": "mobius_otel", "vendor_name": "mobius_otel", "version": version_},
            "uid": self._take(conventions.AUDIT_RECORD_ID),
            "event_code": self._name,
            "log_name": record.get("scope") or None,
            "logged_time": _milliseconds(record["observed_timestamp"]),
            "original_time": str(record["timestamp"]),
            "tenant_uid": self._take(conventions.AUDIT_TENANT),
            "correlation_uid": record.get("trace_id"),
            "sequence": self._take(conventions.AUDIT_SEQUENCE),
        }
        self._take(conventions.LOG_RECORD_UID)
        if owasp := self._take(conventions.AUDIT_OWASP):
            found["labels"] = [f"owasp:{owasp}"]
        return {name: value for name, value in found.items() if value is not None}


def _milliseconds(nanoseconds: Any) -> int:
    return int(nanoseconds) // 1_000_000
