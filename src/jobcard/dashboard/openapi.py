"""The OpenAPI document, made of the table of routes: what is asked, by whom, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jobcard.dashboard.fields import Field
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route
from jobcard.version import VERSION

_WORD = re.compile(r"\{(\w+)(?::\w+)?\}")
_PROBLEMS = {
    400: "Something in it cannot be meant",
    401: "Nobody has signed in",
    403: "Not for this role, or sent by another site's page",
    404: "There is no such thing",
    408: "The body takes too long to arrive",
    409: "It has moved on, or another stands in its way",
    413: "The body is too long",
    414: "The address is too long",
    415: "The body is neither a form nor JSON",
    429: "Too many wrong passwords",
    503: "The store does not answer, or takes too long",
}


@cache
def openapi() -> Mapping[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        if route.api is not None:
            paths.setdefault(_WORD.sub(r"{\1}", route.api), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jobcard", "version": VERSION, "description": "Jobs, queues, schedules and engines."},
        # Beside the document itself, wherever that is mounted.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["status", "error"],
                    "properties": {"status": {"type": "integer"}, "error": {"type": "string"}},
                }
            },
            "securitySchemes": {"password": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"password": []}, {}],
    }


def _operation(route: Route) -> dict[str, Any]:
    assert route.api is not None
    said: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub('[^a-z]+', '_', route.api)}".rstrip("_"),
        "x-role": route.role,
        "parameters": [*_words(route.api), *_query(route.query)],
        "responses": {
            "200": {
                "description": "What was asked for",
                "content": {"application/json": {"schema": {"type": "object", "properties": route.answer}}},
            },
            **{str(status): _problem(text) for status, text in _PROBLEMS.items()},
        },
    }
    if route.writes:
        schema = {"type": "object", "properties": {field.name: _schema(field) for field in route.form}}
        said["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return said


def _words(path: str) -> Iterable[dict[str, Any]]:
    for name in _WORD.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(fields: Sequence[Field]) -> Iterable[dict[str, Any]]:
    for field in fields:
        yield {"name": field.name, "in": "query", "required": False, "schema": _schema(field)}


def _schema(field: Field) -> dict[str, Any]:
    return {"type": "array", "items": field.schema()} if field.many else field.schema()


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
