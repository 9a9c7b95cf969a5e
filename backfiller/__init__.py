"""A DID becomes the records of its repo, on a stream."""
