"""Training, top to bottom: what is trained on, the model, one step after the other, what is kept.

The run's folder:

    log.jsonl       one record a line (journal.py)
    checkpoints/    step_<n>/, each complete (checkpoint.py)
    weights/        those of the last step: model.safetensors and config.json
    best/           those of the step with the best validation score
    tensorboard/    where TensorBoard is installed

Under torchrun every process runs `train`; the first one writes.
"""

import contextlib
import copy
import functools
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

import us43d
from us43d.errors import ConfigError, LicenceError, TrainError, listed
from us43d.harmonize.corpus import Corpus
from us43d.model import flops
from us43d.train import card, checkpoint
from us43d.train.config import TrainConfig
from us43d.train.data import batches
from us43d.train.journal import NOTHING, UNKNOWN, Journal, Record, began, licences, origin, refuse_external, seen
from us43d.train.optimizer import adamw
from us43d.train.tasks import task_of
from us43d.train.team import Team, assembled

__all__ = ["FREE", "Result", "rate", "train"]

#: Annotations of a structure from which on a model counts as trained to find it by name.
_LEARNT = 20
#: What may differ when a run goes on: how it is computed, how often it is looked at, and when it ends; not what is
#: computed. micro_batch belongs to them, unless batches are made of images of one aspect.
FREE = {
    "compile", "checkpointing", "workers", "validate_every", "save_every", "keep", "log_every", "steps", "patience"
}  # fmt: skip
#: Images of TensorBoard at every validation.
_SHOWN = 4
#: The least factor of the loss in fp16: gradients that overflow even so are not those of a sound model.
_LEAST_SCALE = 1.0


@dataclass(frozen=True)
class Result:
    """weights: folder of the final weights; of the last checkpoint if the run was stopped. curve, validation: the log's
    records of steps and of validations. stopped: a signal ended the run before its last step; resuming goes on. best:
    folder of the weights with the best validation score, None without validation."""

    weights: Path
    run: Path
    step: int
    stopped: bool
    curve: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    best: Path | None = None


def train(
    config: TrainConfig,
    corpus: Corpus,
    run_folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: Callable[[int, int | None], None] | None = None,
    report: Callable[[Record], None] | None = None,
) -> Result:
    """Train a model on a corpus.

    init: weights to start from, of any known form; random ones if None. resume: go on from the newest checkpoint in
    `run_folder`, or begin where there is none. progress: called with (steps done, steps). report: called with every
    record of the log. SIGTERM or Ctrl-C saves a checkpoint and returns. Raises ConfigError, LicenceError, UnknownName,
    WeightsError, TrainError, StorageError; the checkpoints of the run stay as they are.
    """
    run_folder = Path(run_folder)
    if (run_folder / "log.jsonl").exists() and not resume:
        raise ConfigError(f"{run_folder} holds a run already.", next="the same with --resume, or with another --run")
    with assembled(device) as team:
        if config.batch % (config.micro_batch * team.world):
            raise ConfigError(
                f"batch {config.batch} is no multiple of {team.world} processes × micro_batch {config.micro_batch}."
            )
        journal = Journal(run_folder, team, report)
        try:
            run = _Run(config, corpus, run_folder, team, journal, init)
            with contextlib.closing(run.writer):
                return run.train(resume, progress)
        except TrainError as error:
            if journal.file.exists():
                newest = checkpoint.latest(run_folder / "checkpoints")
                error.disk = f"The newest checkpoint is intact: {newest}." if newest else "No checkpoint was saved yet."
            raise
        finally:
            journal.close()


class _Sums:
    """Sums of one step on their way to the host: the copy is queued now and waited for when it is read."""

    def __init__(self, values: torch.Tensor, prompts: int, step: int) -> None:
        self.prompts, self.step = prompts, step
        self._copy = values.to("cpu", non_blocking=True)
        self._done = torch.cuda.Event() if values.is_cuda else None
        if self._done is not None:
            self._done.record()

    def values(self) -> list[float]:
        if self._done is not None:
            self._done.synchronize()
        return [float(value) for value in self._copy.tolist()]


class _Run:
    """One run in one process: what it is made of, then what happens to it."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, folder: Path, team: Team, journal: Journal, init: Path | None
    ) -> None:
        self.config, self.corpus, self.folder, self.team, self.journal = config, corpus, folder, team, journal
        self.checkpoints = folder / "checkpoints"
        refuse_external(corpus, config.sources, config.allow_external)
        self.licences = licences(corpus, config.sources, config.commercial)
        self.task = task_of(config, corpus)

        self.model = self.task.initial(init).to(team.device).train()
        self.init = origin(init) if init else None
        if config.commercial and self.init and not self.init["commercial"]:
            raise LicenceError(
                f"Commercial use of the weights {self.init['name']} is forbidden or not settled: "
                f"{self.init['licence'] or 'their licence is not known'}.",
                next="us43d weights show",
            )
        self.task.encoder(self.model).checkpointing = config.checkpointing  # type: ignore[assignment]
        # The average of the weights over the last steps; the model itself where none is wanted.
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema else None
        if config.patience and not self.task.held_out:
            raise ConfigError("patience needs a validation split; no image is held out.", next="--set patience=0")
        rates = self.task.rates(self.model)
        self.trained = [parameter for _, those in rates for parameter in those]
        self.optimizer = adamw(self.model, rates, config, fused=team.on_gpu)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=config.precision == "fp16")
        self.writer = checkpoint.Writer(self.checkpoints, folder / checkpoint.BEST, config.keep, self.model)
        self.step = 0
        self.scores: list[tuple[int, float]] = []  # (step, score) of every validation
        self.window = [0.0] * (len(self.task.parts) + 1)  # sums since the last record, then how many items
        self.pending: _Sums | None = None  # those of the last step, while the GPU may still be computing them

    # -------------------------------------------------------------------------------------------------------- training

    def train(self, resume: bool, progress: Callable[[int, int | None], None] | None) -> Result:
        config, team = self.config, self.team
        passed_over = self._resume_newest() if resume else ""
        if team.leads:
            checkpoint.tidy(self.checkpoints)
        task = self.task
        drawn = {
            "images": len(task.images),
            "instances": len(task.annotations),
            "validation_images": len(task.held_out),
        }
        self.journal.open(began(config, self.corpus, team, self.step, drawn, self.init))
        if passed_over:
            self.journal.write({"kind": "note", "step": self.step, "text": passed_over})
        if config.compile:
            task.encoder(self.model).compile()
        self.objective: Any = task.objective(self.model)
        if team.world > 1:
            self.objective = DistributedDataParallel(self.objective)

        micro_batches = batches(task.draws, self.step, team.rank, team.world, together=task.collate, pin=team.on_gpu)
        per_step = config.batch // (config.micro_batch * team.world)
        self._clock()
        with _asked_to_stop() as asked:
            while self.step < config.steps and not self._exhausted():
                self.writer.check()
                micro = [next(micro_batches) for _ in range(per_step)]
                prompts, stop = team.sums([sum(map(task.count, micro)), asked.is_set()])
                if stop:
                    self._settle()
                    self._save()
                    self.writer.wait()
                    return self._result(checkpoint.latest(self.checkpoints) or self.checkpoints, stopped=True)
                self._learn(micro, int(prompts))
                self.step += 1
                if progress and team.leads:
                    progress(self.step, config.steps)
                last = self.step == config.steps
                due = (config.log_every, config.save_every, config.validate_every)
                if last or any(self.step % every == 0 for every in due):
                    self._settle()
                if last or self.step % config.log_every == 0:
                    self._note()
                validated = bool(task.held_out) and (last or self.step % config.validate_every == 0)
                if validated:
                    self._validate()
                if not last and self._exhausted():
                    last = True
                    if self.step % config.log_every:
                        self._note()
                    text = f"Early stopping: no better score in {config.patience} validations."
                    self.journal.write({"kind": "note", "step": self.step, "text": text})
                # The best is saved at once, so that a run never resumes from before it.
                if last or self.step % config.save_every == 0 or (validated and self._best() == self.step):
                    self._save()
        self.writer.wait()
        place = self.folder / "weights"
        if team.leads:
            meta = self._meta()
            task.save(self.average or self.model, place, meta)
            card.write(place, meta, self.corpus, config, task.quality)
        return self._result(place, stopped=False)

    def _learn(self, micro: list[Any], prompts: int) -> None:
        """One step of the optimizer on the micro-batches of this process. prompts: those of all processes."""
        config, team = self.config, self.team
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(config, self.step) * group["factor"]
        # Dropout depends on the step alone, so that a resumed run draws what an uninterrupted one would.
        torch.manual_seed(int(np.random.SeedSequence([config.seed, self.step, team.rank]).generate_state(1)[0]))
        totals = torch.zeros(len(self.task.parts), device=team.device)
        for number, batch in enumerate(micro):
            more = team.world > 1 and number + 1 < len(micro)
            with self.objective.no_sync() if more else contextlib.nullcontext():
                loss, sums = self.objective(batch.to(team.device))
                # The mean over all prompts; DistributedDataParallel takes the mean over the processes.
                self.scaler.scale(loss * (team.world / prompts)).backward()
            totals += sums
        summed = team.summed(totals.to(team.precise))
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, config.clip)
        self.scaler.step(self.optimizer)  # does nothing where a gradient overflowed in fp16
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            # Fast at first, so that the random beginning is soon forgotten.
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self._settle()  # the step before: by now the GPU has work for a whole step, so the host may wait
        self.pending = _Sums(torch.cat([summed, norm.to(summed)[None]]), prompts, self.step + 1)

    def _settle(self) -> None:
        """Add the pending step's sums to the window.

        Raises:
            TrainError: Its loss or gradient is not finite. Its weights are spoilt then, but saved nowhere.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        *summed, norm = pending.values()
        # In fp16 a gradient may overflow: the step was left out, and the loss is scaled by less from then on.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() >= _LEAST_SCALE
        if not (math.isfinite(summed[0]) and (overflow or math.isfinite(norm))):
            loss = summed[0] / pending.prompts
            raise TrainError(
                f"The loss became {loss:g}, the norm of its gradient {norm:g}, in step {pending.step}.",
                next="another --run with a lower learning_rate, or with precision=float32",
            )
        self.window = [a + b for a, b in zip(self.window, [*summed, pending.prompts], strict=True)]

    def _validate(self) -> None:
        team = self.team
        mine = self.task.held_out[team.rank :: team.world]
        rows = self.task.validate(self.average or self.model, mine, team.device)
        summary = self.task.summary(np.concatenate(team.gathered(rows)))
        score = self.task.score(summary)
        if score is not None:
            self.scores.append((self.step, score))
        self.journal.write({"kind": "validation", "step": self.step, "score": score} | summary)
        if self.journal.draws:
            shown = self.task.shown(self.average or self.model, self.task.held_out[:_SHOWN], team.device)
            self.journal.show(self.step, shown)
        self._clock()

    def _best(self) -> int | None:
        """The step of the best validation score, the first of equal ones."""
        return max(self.scores, key=lambda pair: pair[1])[0] if self.scores else None

    def _exhausted(self) -> bool:
        """Whether `patience` validations in a row brought no better score."""
        since = sum(step > (self._best() or 0) for step, _ in self.scores)
        return 0 < self.config.patience <= since

    # ------------------------------------------------------------------------------------------------ keeping the state

    def _resume_newest(self) -> str:
        """Go on from the newest checkpoint that can be read; one that cannot is passed over.

        Returns:
            What to say of one that was passed over, "" if none was.

        Raises:
            TrainError: There are checkpoints, and none can be read.
        """
        unreadable: TrainError | None = None
        for path in reversed(checkpoint.finished(self.checkpoints)):
            try:
                self._resume(path)
            except TrainError as error:
                if not error.what.startswith(f"The checkpoint {path} cannot be read"):
                    raise
                unreadable = unreadable or error
                continue
            return "" if unreadable is None else f"{unreadable.what} The run resumes from {path.name}."
        if unreadable is not None:
            raise unreadable
        return ""

    def _resume(self, found: Path) -> None:
        """Go on from a checkpoint. Raises ConfigError or TrainError if it is of another run."""
        state = checkpoint.load(found, self.model, self.average, self.optimizer)
        now = json.loads(self.config.model_dump_json())
        free = FREE if self.config.by_aspect else FREE | {"micro_batch"}
        if changed := [name for name in now if name not in free and now[name] != state["config"].get(name)]:
            was = listed(f"{name} was {state['config'].get(name)!r}" for name in changed)
            raise ConfigError(f"The run in {self.folder} was begun with another configuration: {was}.")
        if state["corpus"] != self.corpus.digest:
            raise TrainError(f"The run in {self.folder} was begun on another corpus, of digest {state['corpus']}.")
        self.step, self.window, self.init = state["step"], state["window"], state.get("init")
        self.scores = [(step, score) for step, score in state["scores"]]
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def _save(self) -> None:
        if self.team.leads:
            config = json.loads(self.config.model_dump_json())
            state = {
                "config": config, "corpus": self.corpus.digest, "window": self.window, "init": self.init,
                "scores": self.scores, "scaler": self.scaler.state_dict(),
            }  # fmt: skip
            meta, best = self._meta(), self._best()
            self.writer.save(
                self.step, self.model, self.average, self.optimizer, state,
                lambda model, place: self.task.save(model, place, meta),
                lambda place: card.write(place, meta, self.corpus, self.config, self.task.quality), best,
            )  # fmt: skip
        self._clock()

    def _meta(self) -> Record:
        """What is kept with the weights, so that they can be judged without the run."""
        return {
            "run": self.folder.name,
            "preset": self.config.name,
            "step": self.step,
            "corpus": self.corpus.digest,
            "init": self.init,
            "licences": self.licences,
            "task": self.config.task,
            "structures": self._structures(),
            "seen": self._seen,
            "validation": next(reversed(self.journal.of("validation")), None),
            "us43d": us43d.__version__,
        }  # fmt: skip

    @functools.cached_property
    def _seen(self) -> Record:
        before = self.init.get("seen", UNKNOWN) if self.init else NOTHING
        return seen(self.corpus, self.task.images, self.task.annotations, before)

    def _structures(self) -> dict[str, str]:
        """The structures this run learns by name; those of the initial weights where it learns none."""
        if not self.config.structure_prompts:
            return dict(self.init.get("structures", {})) if self.init else {}
        drawn = np.bincount(self.corpus.annotations["category"][self.task.annotations], minlength=1)
        return {
            str(one["id"]): one["name"]
            for one in self.corpus.categories
            if one["id"] < len(drawn) and drawn[one["id"]] >= _LEARNT
        }

    def _result(self, place: Path, *, stopped: bool) -> Result:
        best = self.folder / checkpoint.BEST
        return Result(
            place, self.folder, self.step, stopped, self.journal.of("step"), self.journal.of("validation"),
            best if best.is_dir() else None,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ how it goes

    def _note(self) -> None:
        """A record of the steps since the last one: means over their prompts, and how fast they went."""
        config, team = self.config, self.team
        *sums, prompts = self.window
        self.window = [0.0] * len(self.window)
        record = {"kind": "step", "step": self.step}
        record |= {name: value / prompts for name, value in zip(self.task.parts, sums, strict=True)}
        record["learning_rate"] = config.learning_rate * rate(config, self.step - 1)
        if steps := self.step - self._from:
            seconds = (time.perf_counter() - self._since) / steps
            record["seconds_per_step"] = seconds
            record["images_per_second"] = config.batch / seconds
            record["seconds_left"] = seconds * (config.steps - self.step)
            if team.on_gpu and config.task == "promptable":  # of the others the arithmetic is not counted
                best = flops.peak(torch.cuda.get_device_name(team.device))
                done = flops.step(config.model, config.batch, round(prompts / steps)) / seconds
                record["mfu"] = done / (best * team.world) if best and config.precision != "float32" else None
            if self.scaler.is_enabled():
                record["loss_scale"] = self.scaler.get_scale()
            if team.on_gpu:
                record["peak_gigabytes"] = torch.cuda.max_memory_allocated(team.device) / 1e9
        self.journal.write(record)
        self._clock()

    def _clock(self) -> None:
        """Count time from here, so that validating and saving are not in it."""
        self._since, self._from = time.perf_counter(), self.step


# --------------------------------------------------------------------------------------------------------------- parts


def rate(config: TrainConfig, step: int) -> float:
    """The factor of the learning rate in a step, counted from 0."""
    if step < config.warm_up:
        return 0.001 + 0.999 * step / config.warm_up  # from a thousandth, as published
    if config.schedule == "steps":
        return config.decay ** sum(step >= at for at in config.milestones)
    done = (step - config.warm_up) / (config.steps - config.warm_up)
    return config.decay + (1 - config.decay) * 0.5 * (1 + math.cos(math.pi * done))


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM or Ctrl-C, which do nothing else meanwhile; a second Ctrl-C ends the run at once."""
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # where no handler may be set
        yield asked
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
