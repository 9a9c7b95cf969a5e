"""`sluice reindex`: rows made anew from the records that are stored."""

import asyncio
import os
import sys
from typing import Annotated

import asyncpg
import typer

from common.collection_filter import CollectionFilter
from common.errors import BadInput, CannotStart
from common.settings import load
from indexer.app import open_pool
from indexer.database import Database
from indexer.refusals import BROKEN
from indexer.reindex import Reindexed
from indexer.reindex import reindex as reindex_records
from indexer.settings import Settings
from sluice.backfill_commands import progress
from sluice.process_exit import ended_by


def reindex(
    collection: Annotated[list[str] | None, typer.Option(help="Of these NSIDs, or prefixes that end in .*")] = None,
    after: Annotated[str, typer.Option(help="Go on after this URI, as an interrupted run has said.")] = "",
) -> None:
    """Make all rows anew from the records that are stored, while indexers write or not.

    For tables that were damaged, or after an upgrade that says so. What was told again counts as told now; counts are
    compared and set right. Rows of records that are not stored are not touched.

    Ends with 0, 1 if Postgres broke off, 2 if it cannot start, 130 after Ctrl-C. Configured as the indexer is.
    """
    ended_by(_reindex(tuple(collection or ("*",)), after))


async def _reindex(patterns: tuple[str, ...], after: str) -> int:
    try:
        is_wanted = CollectionFilter(patterns)
    except BadInput as error:
        raise CannotStart(f"--collection: {error.detail!r} is no NSID, nor app.bsky.* or *") from error
    settings = load(Settings, os.environ, prefix="INDEXER_")
    done = Reindexed(last=after)
    async with await open_pool(settings) as pool:
        try:
            await _run(Database(pool, settings.database_schema, settings.appview), is_wanted, done)
        except (asyncpg.PostgresError, *BROKEN) as error:
            sys.stderr.write(f"{str(error) or type(error).__name__}; go on with --after {done.last}\n")
            return 1
        except asyncio.CancelledError:
            sys.stderr.write(f"interrupted; go on with --after {done.last}\n")
            raise
    refused = f", {done.refused:,} could not be indexed today and were left as they are" if done.refused else ""
    sys.stdout.write(f"{done.records:,} records indexed anew, {done.recounted:,} counts set right{refused}\n")
    return 0


async def _run(database: Database, is_wanted: CollectionFilter, done: Reindexed) -> None:
    with progress("reindexed") as bar:
        task = bar.add_task("reindexed", total=None)
        await reindex_records(
            database, is_wanted, done, lambda: bar.update(task, completed=done.records + done.refused)
        )
