"""What lies in a Redis store: all of it, and whether each job is in exactly the indexes that its row puts it in."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from jobcard.backends.redis import RedisBackend
from jobcard.backends.redis.keys import NAMES
from jobcard.backends.redis.rows import LIVE, unpack

Content = dict[str, Any]

_READERS = {
    b"hash": lambda client, key: client.hgetall(key),
    b"zset": lambda client, key: dict(client.zrange(key, 0, -1, withscores=True)),
    b"set": lambda client, key: client.smembers(key),
}
_NOT_BY_ROWS = frozenset({"live", "card", "attempts", "lines", "records", "meta", "once", "starts", "lapses"})


def content(store: RedisBackend) -> Content:
    """Everything in the store, by the names of its keys."""
    client, found = store._client, {}
    for name, key in zip(NAMES, store._keys.all, strict=True):
        kind = client.type(key)
        if kind != b"none":
            found[name] = _READERS[kind](client, key)
    return found


def misplaced(store: RedisBackend) -> dict[str, tuple[Any, Any]]:
    """By the name of an index: what rows say of it, and what it holds, where that is not the same."""
    found = content(store)
    expected = _by_rows(found)
    wrong = {}
    for name in NAMES:
        if name in _NOT_BY_ROWS:
            continue
        there = found.get(name, {})
        if name == "counts":
            there = {field: int(number) for field, number in there.items() if int(number)}
        if (expected.get(name) or {}) != (dict.fromkeys(there, 0.0) if name == "broken" else there):
            wrong[name] = (expected.get(name), there)
    for name in ("card", "attempts", "lines"):
        if extra := set(found.get(name, {})) - set(found.get("live", {})):
            wrong[name] = ("of no job", extra)
    return wrong


def _by_rows(found: Content) -> Content:
    expected: dict[str, dict[bytes, Any]] = {}

    def put(name: str, member: bytes, score: Any = 0.0) -> None:
        expected.setdefault(name, {})[member] = score

    counts: Counter[bytes] = Counter()
    for ref, text in found.get("live", {}).items():
        live = {field: None if value is False else value for field, value in zip(LIVE, unpack(text), strict=False)}
        state, queue = live["state"], live["queue"].encode()
        put("ids", ref)
        if live["batch"] is not None:
            put("batches", live["batch"].encode() + state.encode() + b"\0" + queue + b"\0" + ref)
        counts[queue + b"\0" + state.encode()] += 1
        if state in ("completed", "failed", "canceled"):
            put(f"kept_{state}" if live["keep"] else state, ref, live["finished_at"])
            if live["expires_at"]:
                put("expires", ref, live["expires_at"])
            continue
        put("alive", ref, live["created_at"])
        if live["unique_key"] is not None:
            put("unique", live["unique_key"].encode(), ref)
        if state == "waiting":
            _waiting(put, ref, queue, live)
        else:
            held = live["claimed_by"].encode() + b"\0" + ref
            put("leases", held, live["lease_until"])
            if live["cancel_requested"]:
                put("cancels", held, live["cancel_requested"].encode())
            if live["limit_key"]:
                put("keyed_work", _keyed(live) + ref)
    return {**expected, "counts": dict(counts)}


def _waiting(put: Any, ref: bytes, queue: bytes, live: dict[str, Any]) -> None:
    place = queue + b"\0" + struct.pack(">IQ", live["rank"] + (1 << 31), live["order_at"] + (1 << 52)) + ref
    match live["hold"]:
        case None:
            put("line", place)
            if live["limit_key"]:
                put("keyed_line", _keyed(live) + place)
        case "limit" if live["limit_key"]:
            put("keyed_held", _keyed(live) + place)
        case "parked":
            put("parked", live["name"].encode() + b"\0" + ref)
        case "broken":
            put("broken", ref)
        case "after":
            put("after", ref)
        case "delay":
            put("due", ref, live["available_at"])
            if live["limit_key"] and live["available_at"] + live["order_offset"] > live["order_at"]:
                put("keyed_due", _keyed(live) + struct.pack(">Q", live["available_at"]) + ref)


def _keyed(live: dict[str, Any]) -> bytes:
    key: bytes = live["limit_key"].encode()
    return struct.pack(">I", len(key)) + key
