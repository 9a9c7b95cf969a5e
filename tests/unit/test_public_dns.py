"""Where a name leads is checked when it is connected to, and the host must prove its name."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from aiohttp import ClientConnectorError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from common.errors import BadInput, TryLater
from common.outbound import Budget, Outbound, _public_socket
from common.public_dns import ForbiddenAddress, PublicResolver
from tests.raw_hosts import QUICK, answer, host
from tests.refusals import refused


class NameServer(asyncio.DatagramProtocol):
    """A DNS on loopback, that answers every question for an address with these."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.questions = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.questions += 1
        query = dns.message.from_wire(data)
        [question] = query.question
        answer = dns.message.make_response(query)
        found = [text for text in self.addresses if (":" in text) == (question.rdtype == dns.rdatatype.AAAA)]
        if found:
            answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", question.rdtype, *found))
        self._transport.sendto(answer.to_wire(), address)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[tuple[NameServer, dns.asyncresolver.Resolver]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(*addresses), local_addr=("127.0.0.1", 0))
    try:
        yield server, asking(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


def asking(port: int) -> dns.asyncresolver.Resolver:
    names = dns.asyncresolver.Resolver(configure=False)
    names.nameservers, names.port = ["127.0.0.1"], port
    return names


@pytest.mark.parametrize("addresses", [["10.0.0.1", "127.0.0.1"], ["::1", "fd00::1"], ["169.254.169.254", "::1"]])
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(addresses: list[str]) -> None:
    async with name_server(*addresses) as (server, names), Outbound(names=names) as outbound:
        with refused(BadInput, "forbidden_address"):
            await outbound.download("https://pds.example.com/", 100, QUICK)
    assert server.questions > 0


async def test_of_a_name_with_both_kinds_only_the_public_addresses_are_left() -> None:
    async with name_server("10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111") as (_, names):
        found = await PublicResolver(names).resolve("pds.example.com", 443, socket.AF_UNSPEC)
    assert sorted((answer["host"], answer["family"]) for answer in found) == [
        ("1.1.1.1", socket.AF_INET),
        ("2606:4700::1111", socket.AF_INET6),
    ]


async def test_a_name_without_an_address_is_unreachable() -> None:
    async with name_server() as (_, names), Outbound(names=names) as outbound:
        with refused(TryLater, "unreachable"):
            await outbound.download("https://pds.example.com/", 100, QUICK)


async def test_a_name_server_that_says_nothing_takes_no_longer_than_connecting_may() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with Outbound(names=asking(silent.getsockname()[1])) as outbound:
            with refused(TryLater, "timeout"):
                await outbound.download("https://pds.example.com/", 100, Budget(connect_seconds=0.3))


async def test_the_address_is_checked_at_the_moment_of_connecting() -> None:
    """Nothing but the connector sees an IP literal, and a name again after it was checked."""
    async with host(answer(b"secret")) as origin, Outbound() as outbound:
        with pytest.raises(ClientConnectorError) as refusal:
            await outbound._guarded.get(f"http://{origin}/")
        assert isinstance(refusal.value.os_error, ForbiddenAddress)


def test_a_socket_is_made_for_port_443_of_a_public_address_only() -> None:
    def made(address: str, port: int) -> bool:
        try:
            _public_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))).close()
        except ForbiddenAddress:
            return False
        return True

    assert made("1.1.1.1", 443)
    assert not made("1.1.1.1", 80)
    assert not made("127.0.0.1", 443)


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(self_signed("localhost"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    async with host(answer(b"secret"), tls=context) as address:
        origin = address.replace("127.0.0.1", "localhost")
        async with Outbound(allow=[origin]) as outbound:
            with refused(TryLater, "unreachable"):
                await outbound.download(f"https://{origin}/", 100, QUICK)


def self_signed(name: str) -> bytes:
    """A key and its own certificate for `name`, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + certificate.public_bytes(Encoding.PEM)
