"""app.bsky.notification.declaration: who may subscribe to a person's posts.

The AppView reads it from the record itself.
"""

from indexer.handler import RecordHandler

HANDLER = RecordHandler("app.bsky.notification.declaration")
