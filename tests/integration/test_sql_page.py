"""Every query of docs/sql.md and of the runbooks answers, with rows in the tables, and none of them writes."""

import re

import asyncpg
import pytest

from sluice.docs import DOCS
from tests.factories import ALICE, BOB, FOLLOW, POST, create, follow, like, post, reply, uri
from tests.indexing import Index

QUERIES = re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(encoding="utf-8"), re.DOTALL)
PATH, *QUESTIONS = QUERIES
OF_RUNBOOKS = [
    pytest.param(query, id=page.stem)
    for page in sorted((DOCS / "runbooks").glob("*.md"))
    for query in re.findall(r'^sql "(SELECT .+)"$', page.read_text(encoding="utf-8"), re.MULTILINE)
]
EXAMPLE = "did:plc:z72i7hdynmk6r22z27h6tvur"


@pytest.fixture
async def filled(index: Index) -> Index:
    """A post with a reply and a like, and a dead letter; the account of the page is ALICE."""
    hello = uri(ALICE, POST, "3l6oveex3ii2l")
    await index.apply(create(ALICE, "3l6oveex3ii2l", post(), 1), create(BOB, "r", reply(hello, at=2), 2))
    await index.apply(create(BOB, "l", like(hello, 3), 3), create(BOB, "f", follow(ALICE, 4), 4))
    await index.apply(create(ALICE, "f", follow(BOB, 5), 5))
    await index.pool.execute(
        "INSERT INTO sluice_bsky.dead_letter (stream, entry_id, reason, payload)"
        " VALUES ('firehose_live', '1-0', 'x', '{}')"
    )
    return index


async def asked(index: Index, question: str) -> list[asyncpg.Record]:
    async with index.pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(PATH)
        return list(await connection.fetch(question.replace(EXAMPLE, ALICE)))


@pytest.mark.parametrize("question", QUESTIONS, ids=[text.strip()[:40] for text in QUESTIONS])
async def test_a_query_of_the_page_answers(filled: Index, question: str) -> None:
    await asked(filled, question)


@pytest.mark.parametrize("question", OF_RUNBOOKS)
async def test_a_query_of_a_runbook_answers(filled: Index, question: str) -> None:
    await asked(filled, question)


async def test_what_the_page_asks_of_an_account_a_post_and_the_dead_letters_finds_them(filled: Index) -> None:
    def about(text: str) -> str:
        (found,) = [question for question in QUESTIONS if text in question]
        return found

    records = {row["collection"]: row["records"] for row in await asked(filled, about("newest_rev"))}
    assert records == {POST: 1, FOLLOW: 1}
    assert len(await asked(filled, about("AS since"))) == 1
    assert len(await asked(filled, about('"replyRoot" ='))) == 2
    assert [row["letters"] for row in await asked(filled, about("AS letters"))] == [1]
    assert [row["event"] for row in await asked(filled, about("convert_from"))] == ["{}"]
    assert [row["type"] for row in await asked(filled, about("originatorDid"))] == ["post"]
