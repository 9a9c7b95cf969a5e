"""Questions to a Prometheus that an operator has named."""

import json
from typing import Any

import aiohttp

from common.errors import CannotStart


class Refusal(CannotStart):
    """It answers, but not this question."""


class Prometheus:
    """The HTTP API of one, by its URL."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    async def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises CannotStart: Refusal where it answers."""
        try:
            async with self._http.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
                said = json.loads(await answer.text())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise CannotStart(f"no Prometheus answers at {self._url}: {why}; see --prometheus") from error
        if said.get("status") != "success":
            raise Refusal(f"Prometheus refuses: {said.get('error')}")
        return said["data"]
