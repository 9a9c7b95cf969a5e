"""Every record type the AppView knows, one file each; a module with a HANDLER is found here by itself."""

from importlib import import_module
from pkgutil import iter_modules

from indexer.handler import RecordHandler

HANDLERS: dict[str, RecordHandler] = {}
for _module in iter_modules(__path__):
    _handler: RecordHandler = import_module(f"{__name__}.{_module.name}").HANDLER
    HANDLERS[_handler.collection] = _handler

# whose schema can be written, the oldest first: what is new in one stands behind it
APPVIEWS = ("0.0.275", "0.0.280")


def collections_of(appview: str) -> frozenset[str]:
    """The record types that this AppView, one of APPVIEWS, knows."""
    known = ("", *APPVIEWS[: APPVIEWS.index(appview) + 1])
    return frozenset(collection for collection, handler in HANDLERS.items() if handler.since in known)
