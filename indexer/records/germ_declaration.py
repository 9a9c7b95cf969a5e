"""com.germnetwork.declaration: an end-to-end encrypted messenger's keys.

The AppView reads it from the record itself.
"""

from indexer.handler import RecordHandler

HANDLER = RecordHandler("com.germnetwork.declaration")
