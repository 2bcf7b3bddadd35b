"""Where a request comes from, judged by what a browser and a socket cannot be talked into."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.requests import Request

from jobcard.dashboard.refusal import Refused

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


def check_host(request: Request, allowed: Sequence[str]) -> None:
    """`Refused` unless the request names a host that it may. allowed: none: any."""
    host = request.headers.get("host", "").lower()
    if allowed and not any(_is_host(host, each) for each in allowed):
        raise Refused(400, "This dashboard is not known by that name: allowed_hosts, or --allowed-host, tells it more.")


def check_framing(request: Request) -> None:
    """`Refused` when two headers say where the body ends: whoever stands before us may have believed the other one."""
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        raise Refused(400, "That has two lengths.", {"Connection": "close"})


def check_is_local(request: Request) -> None:
    """`Refused` unless the request comes from this machine: by its socket, and by no proxy's word."""
    client = request.scope.get("client")
    if client is None or not _is_loopback(client[0]) or any(name in request.headers for name in _FORWARDED):
        raise Refused(403, "Without users this dashboard is for its own machine alone, and not for a proxy.")


def check_same_origin(request: Request, allowed: Sequence[str]) -> None:
    """`Refused` when a browser says that another site's page sends this."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    if site not in ("same-origin", "none") or (origin is not None and not _is_ours(origin, request, allowed)):
        raise Refused(403, "Another site's page sent this.")


def network_of(request: Request) -> str:
    """Who is at the other end, as far as tries are counted: with IPv6, whoever has one address has 2**64."""
    address = str((request.scope.get("client") or ("",))[0])
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 and found.ipv4_mapped is None else address


def is_https(request: Request) -> bool:
    """Whether the browser speaks TLS, as we see it or as its page's origin says."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def is_loopback(host: str) -> bool:
    """Whether binding to this name or address lets in this machine alone."""
    return host.lower() == "localhost" or _is_loopback(host.strip("[]"))


def _is_ours(origin: str, request: Request, allowed: Sequence[str]) -> bool:
    try:
        parts = urlsplit(origin.lower())
        default = {"http": 80, "https": 443}.get(parts.scheme)
        theirs = parts.hostname, parts.port or default
        ours = urlsplit(f"//{request.headers.get('host', '').lower()}")
        if default is None or theirs[0] is None or (request.url.scheme == "https" and parts.scheme == "http"):
            return False  # the other way round TLS ends at a proxy, before us
        # A proxy may have said another host: what it is called by is one of ours, too.
        return theirs == (ours.hostname, ours.port or default) or any(
            _is_host(parts.netloc, each) for each in allowed if not each.startswith("*.")
        )
    except ValueError:
        return False


def _is_host(host: str, allowed: str) -> bool:
    if host == allowed:
        return True
    name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
    if allowed.startswith("*."):
        return name.endswith(allowed[1:]) and len(name) >= len(allowed)
    return name == allowed


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
