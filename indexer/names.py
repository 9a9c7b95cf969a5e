"""Where tables live: the AppView's schema, and ours beside it."""

import functools


class Names:
    """Fills `{app}` and `{own}` in a statement. A database may hold several AppView schemas."""

    def __init__(self, schema: str) -> None:
        self.app = f'"{schema}"'
        self.own = f'"sluice_{schema}"'
        self.fill = functools.lru_cache(maxsize=512)(self._fill)

    def _fill(self, statement: str) -> str:
        return statement.replace("{app}", self.app).replace("{own}", self.own)
