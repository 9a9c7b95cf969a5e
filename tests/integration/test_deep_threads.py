"""A thread may be as deep as somebody likes, and come from its end."""

import pytest

from tests import factories as make
from tests.factories import ALICE, POST, uri
from tests.indexing import Index

DEPTH = 150  # far more than one read or one look finds


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_a_late_root_sets_a_deep_thread_right_in_few_steps(index: Index, is_reversed: bool) -> None:
    names = [f"r{number:03}" for number in range(DEPTH + 1)]
    if is_reversed:
        names.reverse()
    root, *replies = (uri(ALICE, POST, name) for name in names)
    above = [root, *replies]
    chain = [
        make.create(ALICE, name, make.reply(parent, root), at)
        for at, (name, parent) in enumerate(zip(names[1:], above, strict=False), 1)
    ]
    await index.apply(*(reversed(chain) if is_reversed else chain))
    assert set(await index.rows("post", "invalidReplyRoot")) == {True}
    before = await index.rolled_back()
    await index.apply(make.create(ALICE, names[0], make.post(), DEPTH + 1))
    assert set(await index.rows("post", "invalidReplyRoot")) == {None}
    assert await index.rolled_back() - before == 1


async def test_replies_in_a_circle_end(index: Index) -> None:
    root = uri(ALICE, POST, "root")
    circle = [
        make.create(ALICE, name, make.reply(uri(ALICE, POST, other), root), 1)
        for name, other in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    await index.apply(*circle, make.create(ALICE, "d", make.reply(uri(ALICE, POST, "a"), root), 2))
    await index.apply(make.create(ALICE, "root", make.post(), 3))
    await index.apply(make.update(ALICE, "b", make.reply(root), 4))
    assert await index.rows("post", "uri", "invalidReplyRoot") == [
        (uri(ALICE, POST, name), None) for name in ("a", "b", "c", "d", "root")
    ]
