"""Which DID does a handle claim to be? DNS first, then the handle's own web server (spec: handle, resolution)."""

import dns.asyncresolver
import dns.exception

from common.errors import BadInput, GiveUp
from common.outbound import Outbound
from common.syntax import is_did

DNS_SECONDS = 3.0
MAX_BYTES = 4096


class HandleResolver:
    """Asks DNS TXT `_atproto.<handle>`, then https://<handle>/.well-known/atproto-did; or one server for all."""

    def __init__(self, outbound: Outbound, server: str = "") -> None:
        """`server`: base URL of a com.atproto.identity.resolveHandle that is asked instead."""
        self._outbound = outbound
        self._server = server.rstrip("/")

    async def did_of(self, handle: str) -> str | None:
        """None if the handle leads to no DID. Raises TryLater when nobody could be asked."""
        try:
            if self._server:
                return await self._ask_server(handle)
            return await self._ask_dns(handle) or await self._ask_host(handle)
        except (GiveUp, BadInput):
            return None

    async def _ask_server(self, handle: str) -> str | None:
        url = f"{self._server}/xrpc/com.atproto.identity.resolveHandle?handle={handle}"
        answer = await self._outbound.get_json(url, MAX_BYTES)
        return _checked(answer.get("did") if isinstance(answer, dict) else None)

    async def _ask_dns(self, handle: str) -> str | None:
        """No answer, and an answer that says several things, are both none: the host is asked next."""
        try:
            answers = await dns.asyncresolver.resolve(f"_atproto.{handle}", "TXT", lifetime=DNS_SECONDS)
        except (dns.exception.DNSException, OSError):
            return None
        texts = {b"".join(answer.strings).decode("ascii", "replace") for answer in answers}
        claims = {text.removeprefix("did=") for text in texts if text.startswith("did=")}
        return _checked(claims.pop()) if len(claims) == 1 else None

    async def _ask_host(self, handle: str) -> str | None:
        text = await self._outbound.get_text(f"https://{handle}/.well-known/atproto-did", MAX_BYTES)
        return _checked(text.strip())


def _checked(claim: object) -> str | None:
    return claim if isinstance(claim, str) and is_did(claim) else None
