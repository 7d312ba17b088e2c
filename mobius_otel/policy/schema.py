"""The JSON Schema of the policy file, made from the classes that hold it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from mobius_otel.policy.model import HeadersSection, Policy
from mobius_otel.policy.rules import HEADER_NAME, Rule

__all__ = ["json_schema"]

_REFERENCE = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"


def json_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12); editors use it to complete and check a policy file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mobius_otel policy",
        **_section(Policy),
    }


def _section(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.metadata and not (cls is HeadersSection and f.name == "override")]
    schema: dict[str, Any] = {
        "type": "object",
        "description": (cls.__doc__ or "").splitlines()[0],
        "properties": {f.name: {**_value(hints[f.name], f.metadata), **_about(f)} for f in fields},
        "additionalProperties": False,
    }
    if cls is HeadersSection:
        schema["patternProperties"] = {"-": {"type": "string"}}
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    return {**schema, "required": required} if required else schema


def _about(spec: dataclasses.Field[Any]) -> dict[str, Any]:
    about: dict[str, Any] = {"description": spec.metadata["meaning"]}
    if isinstance(spec.default, str | int | float):
        about["default"] = spec.default
    elif isinstance(spec.default, tuple):
        about["default"] = list(spec.default)
    return about


def _value(hint: Any, meta: Mapping[str, Any]) -> dict[str, Any]:
    if hint is Any:
        return {"type": ["string", "object"]}
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
        origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast(type[Any], hint))
    if origin is tuple:
        item = _value(typing.get_args(hint)[0], meta)
        array = {"type": "array", "items": item}
        return array if item["type"] == "object" else {"anyOf": [array, item]}
    if origin is not None and origin is not typing.Literal:
        inner = _value(typing.get_args(hint)[1], {"rule": meta["rule"], "names": None})
        return {"type": "object", "additionalProperties": inner, "propertyNames": _text(meta["names"] or HEADER_NAME)}
    if hint is bool:
        return {"type": "boolean"}
    if hint in {int, float}:
        return {"type": "number", "minimum" if meta["rule"].check(0) else "exclusiveMinimum": 0}
    return _text(meta["rule"])


def _text(rule: Rule) -> dict[str, Any]:
    if rule.choices:
        return {"type": "string", "enum": list(rule.choices)}
    if rule.pattern:
        return {"type": "string", "pattern": f"{rule.pattern}|{_REFERENCE}"}
    return {"type": "string"}
