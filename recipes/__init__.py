"""One module per source: its facts, and how to read it."""
