"""How fast each stage is, measured beside something that does not change (docs/performance.md)."""
