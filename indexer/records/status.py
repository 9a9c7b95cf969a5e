"""app.bsky.actor.status: what a person is doing now.

The AppView reads it from the record itself.
"""

from indexer.handler import RecordHandler

HANDLER = RecordHandler("app.bsky.actor.status")
