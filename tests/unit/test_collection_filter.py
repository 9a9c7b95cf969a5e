"""Which collections a filter lets through."""

import pytest

from common.collection_filter import CollectionFilter
from tests.refusals import refusal

OURS = CollectionFilter(("app.bsky.*", "chat.bsky.actor.declaration"))


@pytest.mark.parametrize("collection", ["app.bsky.feed.post", "app.bsky.x", "chat.bsky.actor.declaration"])
def test_what_a_pattern_names_passes(collection: str) -> None:
    assert OURS(collection)


@pytest.mark.parametrize(
    "collection",
    [
        "app.bskyfoo.post",
        "app.bsky",
        "app",
        "",
        "xapp.bsky.feed.post",
        "chat.bsky.actor.declarations",
        "chat.bsky.actor",
    ],
)
def test_a_wildcard_ends_at_a_dot_and_a_name_is_that_name_alone(collection: str) -> None:
    assert not OURS(collection)


def test_a_star_is_everything_and_no_pattern_is_nothing() -> None:
    assert CollectionFilter(("*",))("any.thing.at.all")
    assert not CollectionFilter(())("app.bsky.feed.post")


@pytest.mark.parametrize(
    "pattern", ["", ".*", "app.bsky*", "app.*.feed", "**", "*.bsky", "app.bsky.", "app", "app..*", "app.bsky.feed post"]
)
def test_a_pattern_that_could_name_nothing_is_refused(pattern: str) -> None:
    assert refusal(CollectionFilter, ("app.bsky.*", pattern)) == "bad_pattern"


@pytest.mark.parametrize("pattern", ["*", "app.*", "app.bsky.*", "com.germnetwork.declaration"])
def test_other_patterns_are_taken(pattern: str) -> None:
    assert CollectionFilter((pattern,)).patterns == (pattern,)


def test_filters_are_values() -> None:
    same = CollectionFilter(("app.bsky.*", "chat.bsky.actor.declaration"))
    assert same == OURS
    assert len({same, OURS, CollectionFilter(("app.bsky.*",))}) == 2
