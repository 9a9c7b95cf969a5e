"""What may be asked on the internet: https on port 443 of a public address, unless the operator lists it by name."""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from yarl import URL

from common.errors import BadInput, CannotStart

MAX_URL_LENGTH = 4096

# is_global is true for these on some Python that we support: protocol assignments, relays into IPv4, documentation
_NEVER = tuple(
    ip_network(network)
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2001:db8::/32"),
        *("2002::/16", "3fff::/20"),
    )
)
# Two labels or more, the last no number: "localhost" and "0x7f.1" are no names of the internet (URL standard, 3.6).
_NAME = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.?")
_GLOBAL_UNICAST = ip_network("2000::/3")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's. Raises ValueError for what is no address."""
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_multicast or not ip.is_global or any(ip in network for network in _NEVER):
        return False
    return ip.version == 4 or ip in _GLOBAL_UNICAST


def host_name(spelled: str) -> str:
    """The one spelling of a host: in lower case, without the dot that makes a name absolute."""
    return spelled.lower().removesuffix(".")


def allow_list(entries: Iterable[str]) -> frozenset[str]:
    """Origins (`host:port`) which may be anywhere and speak plain http. Raises CannotStart."""
    origins = set()
    for entry in entries:
        host, _, port = entry.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise CannotStart(f"OUTBOUND_ALLOW: {entry!r} is not host:port")
        origins.add(f"{host_name(host)}:{port}")
    return frozenset(origins)


def origin_of(url: URL) -> str:
    """`host:port`, as in the allow list."""
    host = host_name(url.host or "")
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def checked_url(text: str, allowed: frozenset[str]) -> URL:
    """The URL if it may be asked for. Where its name leads is checked when it is connected to.

    Raises BadInput: "forbidden_url" or "forbidden_address".
    """
    try:
        url = URL(text[: MAX_URL_LENGTH + 1])
        origin = origin_of(url)
    except ValueError as error:
        raise BadInput("forbidden_url", f"{text[:80]}: {error}") from error
    if len(text) > MAX_URL_LENGTH or not url.host or url.user is not None or url.password is not None:
        raise BadInput("forbidden_url", text[:80])
    if origin in allowed and url.scheme in ("http", "https"):
        return url
    if url.scheme != "https" or url.port != 443:
        raise BadInput("forbidden_url", text[:80])
    if not _NAME.fullmatch((url.raw_host or "").lower()):
        _refuse_private(url.host)
    return url


def redirected(url: URL, location: str, allowed: frozenset[str]) -> URL:
    """Where a redirect leads. The internet may not send us to what only the operator's own hosts may name.

    Raises BadInput as checked_url does.
    """
    try:
        target = str(url.join(URL(location)))
    except ValueError as error:
        raise BadInput("forbidden_url", f"{location[:80]}: {error}") from error
    return checked_url(target, allowed if origin_of(url) in allowed else frozenset())


def _refuse_private(literal: str) -> None:
    try:
        public = is_public(literal)
    except ValueError as error:
        raise BadInput("forbidden_url", literal[:80]) from error
    if not public:
        raise BadInput("forbidden_address", literal)
