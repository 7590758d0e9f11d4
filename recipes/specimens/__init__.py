"""One module per source: a tiny raw tree as published, and the truth that was drawn."""
