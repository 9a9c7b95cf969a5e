"""A batch reads what it is about and little else, however much the tables hold."""

import asyncio
from collections.abc import Iterator

from common.events import StreamEvent
from common.identity import Identities
from common.outbound import Outbound
from indexer.deletions import lock_account, remove_account
from indexer.due import Check, DueChecks, postpone, settle
from indexer.handle_resolver import HandleResolver
from indexer.handles import HandleLookup
from tests import factories as make
from tests.factories import ALICE, BOB, CAROL, LIST_ITEM, POST, did, uri
from tests.indexing import Index

STRANGERS = [did(f"stranger{a}{b}") for a in "bcdefghijklmnopqrst" for b in "bcdefghijklmnopqrstuvwxyz"]
THREAD_GATE = "app.bsky.feed.threadgate"
LIST = "app.bsky.graph.list"


def crowd() -> Iterator[StreamEvent]:
    """Each of many people posts, answers somebody, follows somebody, and takes a post and a follow back.

    All are followed by one.
    """
    for number, who in enumerate(STRANGERS):
        other = STRANGERS[number - 1]
        yield make.create(who, "p", make.post(), 1)
        yield make.create(who, "p", make.record(THREAD_GATE, post=uri(who, POST, "p"), allow=[]), 1)
        yield make.create(who, "r", make.reply(uri(other, POST, "p")), 2)
        yield make.create(who, "q", make.quote(uri(other, POST, "p")), 3)
        yield make.create(who, "s", make.repost(uri(other, POST, "p")), 4)
        yield make.create(who, "f", make.follow(other), 5)
        yield make.create(who, "g", make.post(), 6)
        yield make.delete(who, POST, "g", 7)
        yield make.create(BOB, f"f{number}", make.follow(who), 5)
        yield make.create(who, "h", make.follow(BOB), 8)
        yield make.delete(who, make.FOLLOW, "h", 9)
        yield make.create(who, "i", make.record(LIST_ITEM, subject=other, list=uri(who, LIST, "l")), 10)


def late() -> list[StreamEvent]:
    """Of everything that may put others in another light, dated before all that the crowd did."""
    root = uri(ALICE, POST, "a")
    return [
        make.create(ALICE, "a", make.post(), 0),
        make.create(ALICE, "a", make.record(THREAD_GATE, post=root, allow=[]), 0),
        make.create(BOB, "b", make.reply(root), 0),
        make.create(BOB, "q", make.quote(root), 0),
        make.create(BOB, "s", make.repost(root), 0),
        make.create(CAROL, "l", make.like(root), 0),
        make.create(CAROL, "f", make.follow(BOB), 0),
        make.create(ALICE, "i", make.record(LIST_ITEM, subject=CAROL, list=uri(ALICE, LIST, "l")), 0),
        make.delete(CAROL, POST, "x", 0),
        make.delete(CAROL, make.FOLLOW, "x", 0),
    ]


def ended() -> list[StreamEvent]:
    """What `late` brought goes again, in one way or the other."""
    return [
        make.create(ALICE, "c", make.like(uri(BOB, POST, "b")), 11),
        make.create(ALICE, "d", make.like(uri(BOB, POST, "b")), 12),
        make.update(BOB, "b", make.reply(uri(ALICE, POST, "a"), text="edited"), 13),
        make.delete(BOB, POST, "q", 14),
        make.delete(ALICE, THREAD_GATE, "a", 15),
        make.delete(ALICE, LIST_ITEM, "i", 16),
        make.delete(CAROL, make.FOLLOW, "f", 17),
        make.delete(ALICE, POST, "a", 18),
        make.identity(BOB, 19),
        make.account(CAROL, 20, active=False, status="deactivated"),
        *make.snapshot(CAROL, {}, 21),
    ]


async def rows_read(index: Index) -> int:
    """By all statements until now: rows of whole tables, and entries of indexes."""
    await index.pool.fetch("SELECT pg_stat_force_next_flush()")  # by the only connection there is
    of_tables = await index.pool.fetchval("SELECT sum(seq_tup_read) FROM pg_stat_user_tables")
    of_indexes = await index.pool.fetchval("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes")
    return int(of_tables + of_indexes)


async def test_a_batch_reads_little_of_large_tables(index: Index) -> None:
    await index.apply(*crowd())
    await index.pool.execute("ANALYZE")
    before = await rows_read(index)
    await index.apply(*late())
    await index.apply(*ended())
    await index.apply(make.create(CAROL, "n", make.post(), 22))  # of whom a repo that was whole has told
    assert await rows_read(index) - before < len(STRANGERS)  # less than one row of each kind for every stranger


async def test_who_was_let_in_is_found_among_all_who_ever_were(index: Index) -> None:
    """BOB followed ALICE when he replied, CAROL was on her list; both of them and many others are not any more."""
    root, members = uri(ALICE, POST, "a"), uri(ALICE, LIST, "l")
    rules = [{"$type": f"{THREAD_GATE}#followerRule"}, {"$type": f"{THREAD_GATE}#listRule", "list": members}]
    await index.apply(make.create(ALICE, "a", make.post(), 1))
    await index.apply(make.create(ALICE, "a", make.record(THREAD_GATE, post=root, allow=rules), 2))
    for number, who in enumerate([*STRANGERS, ALICE, CAROL]):
        item = make.record(LIST_ITEM, subject=who, list=members)
        await index.apply(
            make.create(BOB, f"f{number}", make.follow(who), 3), make.create(ALICE, f"i{number}", item, 3)
        )
    for number in range(len(STRANGERS) + 2):
        await index.apply(
            make.delete(BOB, make.FOLLOW, f"f{number}", 9), make.delete(ALICE, LIST_ITEM, f"i{number}", 9)
        )
    await index.pool.execute("VACUUM ANALYZE")
    before = await rows_read(index)
    await index.apply(*(make.create(who, "r", make.reply(root), 5) for who in (BOB, CAROL, did("stranger"))))
    flags = dict(await index.rows("post", "creator", "violatesThreadGate"))
    assert flags == {ALICE: None, BOB: None, CAROL: None, did("stranger"): True}
    assert await rows_read(index) - before < len(STRANGERS)


async def test_what_is_looked_up_and_removed_reads_little(index: Index) -> None:
    await index.apply(*crowd(), make.create(ALICE, "a", make.post(), 1), make.create(ALICE, "f", make.follow(BOB), 2))
    await index.apply_labels(*(make.labels(make.label(who, "spam", 1)) for who in STRANGERS))
    await index.apply(*(make.account(who, 11, active=False, status="deactivated") for who in STRANGERS))
    await index.apply(*(make.account(who, 12, active=True) for who in STRANGERS))
    await index.pool.execute("UPDATE bsky.actor SET handle = substr(did, 9) || '.test'")
    await index.pool.execute("ANALYZE")
    before = await rows_read(index)
    await index.apply_labels(make.labels(make.label(STRANGERS[7], "spam", 2, neg=True)))
    await index.apply(make.account(ALICE, 3, active=False, status="deleted"), make.identity(STRANGERS[8], 13))
    for table in ("handle_check", "resync", "deletion_check"):
        check = await claimed(index, table)
        async with index.database.transaction() as session:
            await postpone(session, table, check, 60.0)
            await settle(session, table, check)
    async with Outbound() as outbound:
        lookup = HandleLookup(index.database, Identities(outbound, "http://x.invalid"), HandleResolver(outbound))
        await lookup.write(Check(STRANGERS[8], make.moment(13), 0), STRANGERS[9][8:] + ".test")
    async with index.database.transaction() as session:
        await lock_account(session, ALICE)
        await remove_account(session, ALICE, make.moment(4))
    assert await rows_read(index) - before < len(STRANGERS)


async def claimed(index: Index, table: str) -> Check:
    stop, taken = asyncio.Event(), []

    async def look(check: Check) -> None:
        taken.append(check)
        stop.set()

    await DueChecks(index.database, table, look, concurrency=1).run(stop)
    return taken[0]


async def blocks_read(index: Index, table: str) -> int:
    """By all statements until now, of a table and its indexes: an index that is read whole returns few rows."""
    await index.pool.fetch("SELECT pg_stat_force_next_flush()")
    return int(await index.pool.fetchval(_BLOCKS, table))


_BLOCKS = """
SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit FROM pg_statio_user_tables WHERE relname = $1
"""


async def test_a_reply_to_oneself_is_found_among_those_of_others(index: Index) -> None:
    await index.pool.execute("""
INSERT INTO bsky.op_thread_reply SELECT 'at://root' || n, 'at://parent' || n, 'at://reply' || n, NULL
FROM generate_series(1, 30000) AS n
""")
    await index.pool.execute("VACUUM ANALYZE bsky.op_thread_reply")
    root = uri(ALICE, POST, "a")
    await index.apply(make.create(ALICE, "a", make.post(), 1), make.create(ALICE, "r", make.reply(root), 2))
    await index.apply(make.create(ALICE, "s", make.reply(root), 3), make.create(ALICE, "t", make.reply(root), 3))
    before = await blocks_read(index, "op_thread_reply")
    await index.apply(make.update(ALICE, "r", make.reply(root, text="edited"), 4), make.delete(ALICE, POST, "s", 4))
    own = 'SELECT count(*), count("deletedAt") FROM bsky.op_thread_reply WHERE "rootUri" = $1'
    assert tuple(await index.pool.fetchrow(own, root)) == (3, 1)
    async with index.database.transaction() as session:
        await remove_account(session, ALICE, make.moment(5))
    assert tuple(await index.pool.fetchrow(own, root)) == (0, 0)
    assert await blocks_read(index, "op_thread_reply") - before < 100  # of 900
