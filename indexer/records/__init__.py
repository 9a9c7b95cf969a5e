"""Every record type the AppView knows, one file each; a module with a HANDLER is found here by itself."""

from importlib import import_module
from pkgutil import iter_modules

from indexer.handler import RecordHandler

HANDLERS: dict[str, RecordHandler] = {}
for _module in iter_modules(__path__):
    _handler: RecordHandler = import_module(f"{__name__}.{_module.name}").HANDLER
    HANDLERS[_handler.collection] = _handler
