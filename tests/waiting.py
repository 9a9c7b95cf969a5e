"""Waiting for a condition: what is awaited happens in another task, process or server."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any


async def until(condition: Callable[[], Awaitable[Any] | Any], seconds: float = 60.0) -> Any:
    """The first answer that is true. Raises TimeoutError: the machine may be slow, so the patience is long."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.005)
