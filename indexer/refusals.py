"""What an error of Postgres means for the batch: wait and try again, look for the culprit, or stop.

The default is to wait: only what is known to be the data's fault may end in the dead letters.
"""

import asyncio
from enum import Enum

import asyncpg


class Verdict(Enum):
    WAIT = "wait"  # an outage, or a conflict that the next try will not meet
    HALVE = "halve"  # an entry that Postgres will never take is in the batch
    STOP = "stop"  # our own fault: a statement, a schema, a right


# classes of https://www.postgresql.org/docs/current/errcodes-appendix.html
_DATA = ("22", "23", "21", "54")
_OURS = ("42", "3D", "3F", "28", "0A", "26", "34")

# what the client raises for values that it cannot send
UNSENDABLE = (asyncpg.DataError, UnicodeError, OverflowError)
# a connection that broke in mid-statement shows in many ways
BROKEN = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, asyncio.TimeoutError)
ERRORS = (asyncpg.PostgresError, *UNSENDABLE, *BROKEN)


def verdict(error: BaseException) -> Verdict:
    state = sqlstate(error)
    if state.startswith(_OURS):
        return Verdict.STOP
    if state.startswith(_DATA) or (not state and isinstance(error, UNSENDABLE)):
        return Verdict.HALVE
    return Verdict.WAIT


def sqlstate(error: BaseException) -> str:
    """The error's SQLSTATE, empty if Postgres did not give one."""
    return getattr(error, "sqlstate", None) or ""
