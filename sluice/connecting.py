"""One connection to Postgres, for a command that needs no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from common.errors import CannotStart


@asynccontextmanager
async def connected(database_url: str, named: str = "DATABASE_URL") -> AsyncIterator[asyncpg.Connection]:
    """Behind PgBouncer too. Raises CannotStart; what cannot be read of the URL, which may be part of a password, is
    left out of it.
    """
    try:
        connection = await asyncpg.connect(database_url, statement_cache_size=0, timeout=10)
    except ValueError:
        raise CannotStart(
            f"postgres does not answer, for {named} cannot be read; it looks like postgres://user:PASSWORD@host/name"
        ) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = str(error) or type(error).__name__
        raise CannotStart(f"postgres does not answer: {why}; check {named}") from error
    try:
        yield connection
    finally:
        await connection.close()
