"""Names -> public addresses, without threads: a host whose name server is slow keeps nobody else waiting."""

import ipaddress
import socket

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
from aiohttp.abc import AbstractResolver, ResolveResult

from common.public_addresses import is_public

LOOKUP_SECONDS = 5.0
REMEMBERED_ANSWERS = 20_000


class ForbiddenAddress(OSError):
    """Where a name or a literal leads is not on the public internet."""


class PublicResolver(AbstractResolver):
    """For aiohttp. Leaves out what the connector would refuse, so that a name with addresses of both kinds works."""

    def __init__(self, names: dns.asyncresolver.Resolver | None = None) -> None:
        """`names`: whom to ask instead of the system's name servers."""
        self._names = names or _system_resolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises ForbiddenAddress if all addresses are private, OSError if there are none."""
        try:
            # absolute: a search list must not lead the name into a network of ours
            name = dns.name.from_text(host)
            answers = await self._names.resolve_name(name, family, lifetime=LOOKUP_SECONDS)
            found = list(answers.addresses())
        except (dns.exception.DNSException, UnicodeError) as error:
            raise OSError(f"{host} does not resolve: {error}") from error
        public = [address for address in found if is_public(address)]
        if found and not public:
            raise ForbiddenAddress(f"{host} is {found[0]}")
        return [_result(host, address, port) for address in public]

    async def close(self) -> None:
        """Nothing stays open between two questions."""


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)


def _system_resolver() -> dns.asyncresolver.Resolver:
    try:
        names = dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        names = dns.asyncresolver.Resolver(configure=False)
        names.nameservers = ["127.0.0.1"]
    names.cache = dns.resolver.LRUCache(REMEMBERED_ANSWERS)
    return names
