"""Data only: taxonomy, duplicates known from the facts, pinned splits, golden counts."""
