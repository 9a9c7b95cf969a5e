"""One look for all tables that commands print: without frames and with nothing cut off, to be piped and copied."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

_ANY_WIDTH = 10_000


def standard_output() -> Console:
    """For people. Into a file or a pipe each row is one line, however long, so that it can be searched."""
    return Console() if sys.stdout.isatty() else Console(width=_ANY_WIDTH)


def plain_table(*heads: str, title: str | None = None) -> Table:
    """Of a head, # says that its column holds numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.title = Text(title, "bold", no_wrap=True, overflow="ignore") if title else None
    table.title_justify = "left"
    for head in heads:
        table.add_column(head.lstrip("#"), justify="right" if head.startswith("#") else "left", overflow="fold")
    return table
