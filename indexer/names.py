"""Where tables live: the AppView's schema, and ours beside it."""

import functools
import re

from common.errors import CannotStart

_OWN_PREFIX = "sluice_"
_MAX_IDENTIFIER = 63  # Postgres cuts longer names off, silently


def own_schema(schema: str) -> str:
    """The name of the schema that holds what Sluice keeps beside the AppView's `schema`.

    Raises CannotStart for a name that is not letters, digits and underscores, which is also what makes it safe
    to stand in SQL.
    """
    own = _OWN_PREFIX + schema
    if not re.fullmatch(r"(?!pg_)[A-Za-z_][A-Za-z0-9_]*", schema) or len(own) > _MAX_IDENTIFIER:
        raise CannotStart(f"{schema!r} cannot be a schema: use at most 56 letters, digits and underscores")
    return own


class Names:
    """Fills `{app}` and `{own}` in a statement. A database may hold several AppView schemas."""

    def __init__(self, schema: str) -> None:
        """Raises CannotStart for a name that cannot be a schema's."""
        self._own = f'"{own_schema(schema)}"'
        self.app_schema = schema
        self._app = f'"{schema}"'
        self.fill = functools.lru_cache(maxsize=512)(self._fill)

    def _fill(self, statement: str) -> str:
        return statement.replace("{app}", self._app).replace("{own}", self._own)
