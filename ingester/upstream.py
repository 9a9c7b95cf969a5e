"""The hosts that we read from, as the settings name them."""

import re
from dataclasses import dataclass

from common.errors import BadInput, CannotStart
from common.public_addresses import host_name

_HOST = re.compile(
    r"(?:(?P<scheme>wss?|https?)://)?"
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Upstream:
    """`host` is the one spelling, which stands in cursor keys: no scheme, a port only if it is not the usual one."""

    host: str
    tls: bool
    port: int

    @property
    def http_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def websocket_url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.host}"

    @property
    def origin(self) -> str:
        """host:port, always with the port."""
        return self.host if self.host.endswith(f":{self.port}") else f"{self.host}:{self.port}"


def upstreams(variable: str, names: tuple[str, ...]) -> tuple[Upstream, ...]:
    """The hosts of a setting: `bsky.network`, or with wss:// or https://, or ws:// or http:// for plain text.

    Raises CannotStart for what is no host, and for a host that is there twice: two readers would share its cursor.
    """
    hosts = [_upstream(variable, name) for name in names]
    for host in hosts:
        if sum(other.host == host.host for other in hosts) > 1:
            raise CannotStart(f"{variable}: {host.host} is there twice")
    return tuple(hosts)


def upstream_of(url: str) -> Upstream:
    """The host of a base URL in somebody's DID document. Raises BadInput("forbidden_url")."""
    found = _parsed(url)
    if found is None:
        raise BadInput("forbidden_url", url[:80])
    return found


def _upstream(variable: str, name: str) -> Upstream:
    found = _parsed(name)
    if found is None:
        raise CannotStart(f"{variable}: {name!r} is no host; it looks like bsky.network or ws://127.0.0.1:2470")
    return found


def _parsed(name: str) -> Upstream | None:
    match = _HOST.fullmatch(name)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return None
    tls = (match["scheme"] or "wss").lower() in ("wss", "https")
    usual = 443 if tls else 80
    port = int(match["port"] or usual)
    host = host_name(match["host"])
    return Upstream(host if port == usual else f"{host}:{port}", tls, port)
