"""The names that others gave to security events: OWASP's vocabulary, the classes of OCSF. Data alone."""

from __future__ import annotations

from typing import Final

__all__ = ["ACTION_TYPES", "OCSF_CLASSES", "OTHER_ACTIVITY", "OWASP", "is_type_uid"]

#: The event names of the OWASP Logging Vocabulary Cheat Sheet, without their arguments.
OWASP: Final = frozenset({
    "authn_login_success", "authn_login_successafterfail", "authn_login_fail", "authn_login_fail_max",
    "authn_login_lock", "authn_password_change", "authn_password_change_fail", "authn_impossible_travel",
    "authn_token_created", "authn_token_revoked", "authn_token_reuse", "authn_token_delete", "authz_fail",
    "authz_change", "authz_admin", "crypt_decrypt_fail", "crypt_encrypt_fail", "excess_rate_limit_exceeded",
    "upload_complete", "upload_stored", "upload_validation", "upload_delete", "input_validation_fail",
    "input_validation_discrete_fail", "malicious_excess_404", "malicious_extraneous", "malicious_attack_tool",
    "malicious_cors", "malicious_direct_reference", "privilege_permissions_changed", "sensitive_create",
    "sensitive_read", "sensitive_update", "sensitive_delete", "sequence_fail", "session_created", "session_renewed",
    "session_expired", "session_use_after_expire", "sys_startup", "sys_shutdown", "sys_restart", "sys_crash",
    "sys_monitor_disabled", "sys_monitor_enabled", "user_created", "user_updated", "user_archived", "user_deleted",
})  # fmt: skip

#: The classes of OCSF that an audit event can be, and the activities of each; 0 is unknown, 99 another one.
OCSF_CLASSES: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    3001: (
        "Account Change",
        ("Create", "Enable", "Password Change", "Password Reset", "Disable", "Delete", "Attach Policy",
         "Detach Policy", "Lock", "MFA Factor Enable", "MFA Factor Disable", "Unlock"),
    ),
    3002: (
        "Authentication",
        ("Logon", "Logoff", "Authentication Ticket", "Service Ticket Request", "Service Ticket Renew", "Preauth"),
    ),
    3003: ("Authorize Session", ("Assign Privileges", "Assign Groups")),
    3004: ("Entity Management", ("Create", "Read", "Update", "Delete")),
    3005: ("User Access Management", ("Assign Privileges", "Revoke Privileges")),
    3006: (
        "Group Management",
        ("Assign Privileges", "Revoke Privileges", "Add User", "Remove User", "Delete", "Create"),
    ),
    6003: ("API Activity", ("Create", "Read", "Update", "Delete")),
}  # fmt: skip
OTHER_ACTIVITY: Final = 99

#: The OCSF type of an event that nobody gave one, by its action.
ACTION_TYPES: Final = {
    "CREATE": 600301, "READ": 600302, "UPDATE": 600303, "DELETE": 600304, "LOGIN": 300201, "LOGOUT": 300202,
}  # fmt: skip


def is_type_uid(number: object) -> bool:
    """Return whether a number is the ``type_uid`` of one of these classes: class * 100 + activity.

    Example:
        >>> is_type_uid(600303), is_type_uid(600399), is_type_uid(600350), is_type_uid(1)
        (True, True, False, False)
    """
    if not isinstance(number, int) or isinstance(number, bool):
        return False
    uid, activity = divmod(number, 100)
    return uid in OCSF_CLASSES and (activity in (0, OTHER_ACTIVITY) or activity <= len(OCSF_CLASSES[uid][1]))
