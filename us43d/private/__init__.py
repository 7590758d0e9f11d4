"""Folders of a lab's own as sources: `us43d import` records how one is read, `us43d.registry` finds it by name.

What a packaged source has as recipes/facts/<slug>.toml and recipes/<slug>.py, a private one has as private/<slug>.json
of one home (`record`): facts of the same schema, and what one of two readers needs (`coco`, `nnunet`). `recipe` puts
both together, `imported` makes the record.
"""
