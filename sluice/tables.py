"""One look for all tables that commands print: without frames and with nothing cut off, to be piped and copied."""

from rich.table import Table


def plain_table(*heads: str, title: str | None = None) -> Table:
    """Of a head, # says that its column holds numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    for head in heads:
        table.add_column(head.lstrip("#"), justify="right" if head.startswith("#") else "left", overflow="fold")
    return table
