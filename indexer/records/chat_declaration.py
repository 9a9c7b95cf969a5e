"""chat.bsky.actor.declaration: who may start a chat.

The AppView reads it from the record itself.
"""

from indexer.handler import RecordHandler

HANDLER = RecordHandler("chat.bsky.actor.declaration")
