"""What shows in feeds: posts and reposts alike."""

from indexer.tables import Table

FEED_ITEM = Table("feed_item", ("uri", "cid", "type", "postUri", "originatorDid", "sortAt"))
