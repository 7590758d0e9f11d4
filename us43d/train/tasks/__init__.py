"""Training tasks: one module per task, all trained by `us43d.train.loop`."""

from importlib import import_module

from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig
from us43d.train.tasks.task import Task

__all__ = ["Task", "task_of"]

#: Task → its module; a task's packages are imported when it is used.
_MODULES = {"promptable": "promptable", "classify": "classify", "classify-prompt": "classify", "semantic": "semantic",
            "instances": "instances", "box-unet": "box_unet"}  # fmt: skip


def task_of(config: TrainConfig, corpus: Corpus) -> Task:
    """Create the task of a configuration on a corpus. Raises UnknownName, or TrainError if nothing can be drawn."""
    made: Task = import_module(f"us43d.train.tasks.{_MODULES[config.task]}").make(config, corpus)
    return made
