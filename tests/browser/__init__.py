"""What needs a browser: only `make page` runs it."""
