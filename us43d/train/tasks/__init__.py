"""Training tasks: one module per task, all trained by `us43d.train.loop`."""

from importlib import import_module

from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig
from us43d.train.tasks.task import Task

__all__ = ["Task", "task_of"]

#: Task → its module and class; a task's packages are imported when it is used.
_TASKS = {
    "promptable": "promptable.Promptable", "classify": "classify.Classify", "classify-prompt": "classify.Classify",
    "semantic": "semantic.Semantic", "instances": "instances.Instances", "box-unet": "box_unet.BoxUNet",
}  # fmt: skip


def task_of(config: TrainConfig, corpus: Corpus) -> Task:
    """Create the task of a configuration on a corpus. Raises UnknownName, or TrainError if nothing can be drawn."""
    module, _, kind = _TASKS[config.task].partition(".")
    task: Task = getattr(import_module(f"us43d.train.tasks.{module}"), kind)(config, corpus)
    return task
