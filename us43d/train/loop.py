"""Training loop: data, model, steps, checkpoints.

Folder of a run:

    log.jsonl       one record per line (journal.py)
    checkpoints/    step_<n>/, each complete (checkpoint.py)
    weights/        weights of the last step: model.safetensors and config.json
    best/           weights of the step with the best validation score
    tensorboard/    if TensorBoard is installed

Under torchrun, every process runs `train`; the first process writes.
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
from pydantic import ValidationError
from torch.nn.parallel import DistributedDataParallel

import us43d
from us43d.errors import ConfigError, LicenceError, TrainError, command, listed
from us43d.harmonize.corpus import Corpus
from us43d.model import flops
from us43d.train import card, checkpoint
from us43d.train.config import TrainConfig
from us43d.train.data import batches
from us43d.train.journal import NOTHING, UNKNOWN, Journal, Record, began, by_licence, origin, refuse_external, seen
from us43d.train.optimizer import adamw
from us43d.train.tasks import task_of
from us43d.train.team import Team, assembled

__all__ = ["FREE", "Result", "rate", "train"]

#: Smallest number of annotations of a structure with which a model counts as trained to find it by name.
_LEARNT = 20
#: Settings that may change on resume, as they do not affect what a step computes. So may micro_batch, unless
#: `by_aspect` is set.
FREE = {
    "compile", "checkpointing", "workers", "validate_every", "save_every", "keep", "log_every", "steps", "patience"
}  # fmt: skip
#: Number of items that are validated between two looks at stop requests.
_VALIDATED = 8
#: Number of images in TensorBoard per validation.
_SHOWN = 4
#: Smallest loss scale in fp16: a gradient that overflows even so is not that of a sound model.
_LEAST_SCALE = 1.0


@dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
        weights: Folder of the final weights; of the last checkpoint if the run was stopped.
        run: Folder of the run.
        step: Steps done.
        stopped: Whether a signal ended the run before its last step; it can be resumed.
        curve: Records of steps in the log.
        validation: Records of validations in the log.
        best: Folder of the weights with the best validation score; None without validation.
    """

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

    SIGTERM or Ctrl-C saves a checkpoint and returns. After an error, the checkpoints of the run are intact.

    Args:
        config: What to train, and how.
        corpus: The corpus to train on.
        run_folder: Folder of the run: log, checkpoints and weights are written there.
        init: Weights to start from, in any form that `us43d.model.weights.load` reads; None for random weights.
        resume: Resume from the newest checkpoint in `run_folder`, or start without one.
        device: "cpu", "cuda", "cuda:N" or "mps".
        progress: Called with (steps done, steps).
        report: Called with every record of the log.

    Returns:
        Folders of the weights, and the records of the log.

    Raises:
        ConfigError: Invalid or conflicting settings, or the folder holds a run and `resume` is False.
        LicenceError: A licence does not permit the use asked for.
        UnknownName: A source is not in the corpus.
        WeightsError: The initial weights cannot be read, or do not fit.
        TrainError: No image to train on, an unreadable image or checkpoint, or a non-finite loss.
        StorageError: A file cannot be written.
    """
    run_folder = Path(run_folder)
    if (run_folder / "log.jsonl").exists() and not resume:
        raise ConfigError(
            f"{run_folder} already contains a run.", next="the same with --resume   (or with another --run)"
        )
    with assembled(device) as team:
        if config.batch % (config.micro_batch * team.world):
            raise ConfigError(
                f"batch {config.batch} is not a multiple of {team.world} processes × micro_batch {config.micro_batch}."
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
    """Sums of one step on their way to the host: the copy starts now; `values` waits for it."""

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


class _Stopped(Exception):
    """A stop request was granted: the state is complete and can be saved."""


class _Run:
    """State and steps of a run in one process."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, folder: Path, team: Team, journal: Journal, init: Path | None
    ) -> None:
        self.config, self.corpus, self.folder, self.team, self.journal = config, corpus, folder, team, journal
        self.checkpoints = folder / "checkpoints"
        refuse_external(corpus, config.sources, config.allow_external)
        self.licences = by_licence(corpus, config.sources, config.commercial)
        self.task = task_of(config, corpus)

        self.model = self.task.initial(init).to(team.device).train()
        self.init = origin(init) if init else None
        if config.commercial and self.init and not self.init["commercial"]:
            raise LicenceError(
                f"Commercial use of the weights {self.init['name']} is not permitted or not settled: "
                f"{self.init['licence'] or 'unknown licence'}.",
                next="us43d weights show",
            )
        self.task.encoder(self.model).checkpointing = config.checkpointing  # type: ignore[assignment]
        # Exponential moving average of the weights; None if the model itself is used.
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema else None
        if config.patience and not self.task.held_out:
            raise ConfigError("patience needs a validation split; no image is held out.", next="--set patience=0")
        rates = self.task.rates(self.model)
        self.trained = [parameter for _, group in rates for parameter in group]
        self.optimizer = adamw(self.model, rates, config, fused=team.on_gpu)
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=config.precision == "fp16")
        self.writer = checkpoint.Writer(self.checkpoints, folder / checkpoint.BEST, config.keep, self.model)
        self.step = 0
        self.scores: list[tuple[int, float]] = []  # (step, score) of every validation
        self.validated = 0  # step of the last validation
        self.window = [0.0] * (len(self.task.parts) + 1)  # sums since the last record, then the number of items
        self.pending: _Sums | None = None  # sums of the last step, which the GPU may still be computing

    # -------------------------------------------------------------------------------------------------------- training

    def train(self, resume: bool, progress: Callable[[int, int | None], None] | None) -> Result:
        config, team = self.config, self.team
        passed_over = self._resume_newest() if resume else ""
        if team.leads:
            checkpoint.tidy(self.checkpoints)
        task = self.task
        counts = {
            "images": len(task.images),
            "instances": len(task.annotations),
            "validation_images": len(task.held_out),
        }
        self.journal.open(began(config, self.corpus, team, self.step, counts, self.init))
        if passed_over:
            self.journal.write({"kind": "note", "step": self.step, "text": passed_over})
        if config.compile:
            task.encoder(self.model).compile()
        self.objective: Any = task.objective(self.model)
        if team.world > 1:
            # A batch without one kind of prompts leaves one of the second look's networks without a gradient.
            self.objective = DistributedDataParallel(self.objective, find_unused_parameters=bool(config.model.look))

        micro_batches = batches(task.draws, self.step, team.rank, team.world, together=task.collate, pin=team.on_gpu)
        per_step = config.batch // (config.micro_batch * team.world)
        self._clock()
        with _stop_requests(self._stopping) as stop_requested:
            try:
                self._run(micro_batches, per_step, stop_requested, progress)
            except _Stopped:
                self._save()
                self.writer.wait()
                return self._result(checkpoint.latest(self.checkpoints) or self.checkpoints, stopped=True)
        self.writer.wait()
        place = self.folder / "weights"
        if team.leads:
            meta = self._meta()
            task.save(self.average or self.model, place, meta)
            card.write(place, meta, self.corpus, config, task.quality)
        return self._result(place, stopped=False)

    def _run(
        self,
        micro_batches: Iterator[Any],
        per_step: int,
        stop_requested: threading.Event,
        progress: Callable[[int, int | None], None] | None,
    ) -> None:
        """Run the steps that remain. Raises _Stopped after a stop request."""
        config, team = self.config, self.team
        if self._due_validation() and self.validated < self.step:
            self._validate(stop_requested)  # a stop request had interrupted it
            if self.step < config.steps and self._exhausted():
                self._note_early()
            self._save()
        while self.step < config.steps and not self._exhausted():
            self.writer.check()
            micro = [next(micro_batches) for _ in range(per_step)]
            prompts, stop = team.sums([sum(map(self.task.count, micro)), stop_requested.is_set()])
            if stop:
                self._settle()
                raise _Stopped
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
            validated = self._due_validation()
            if validated:
                self._validate(stop_requested)
            if not last and self._exhausted():
                last = True
                self._note_early()
            # The best step is saved immediately, so that a run never resumes from before it.
            if last or self.step % config.save_every == 0 or (validated and self._best() == self.step):
                self._save()

    def _note_early(self) -> None:
        """Log the steps since the last record, and that the run ends before its last step."""
        if self.step % self.config.log_every:
            self._note()
        text = f"Early stopping: no better score in {self.config.patience} validations."
        self.journal.write({"kind": "note", "step": self.step, "text": text})

    def _stopping(self) -> None:
        """Report that a stop was requested: a step of a large model takes minutes on a CPU. It is not logged."""
        if self.journal.report and self.team.leads:
            text = "Stopping: the run is saved after this step. Ctrl-C again ends it immediately, without saving."
            self.journal.report({"kind": "note", "step": self.step, "text": text})

    def _learn(self, micro: list[Any], prompts: int) -> None:
        """Run one optimizer step on this process's micro-batches. prompts: number of prompts in all processes."""
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
        self.scaler.step(self.optimizer)  # does nothing if a gradient overflowed in fp16
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            # Fast at first, so that the random initial weights soon have no effect.
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self._settle()  # previous step: the GPU now has work for a whole step, so the host may wait
        self.pending = _Sums(torch.cat([summed, norm.to(summed)[None]]), prompts, self.step + 1)

    def _settle(self) -> None:
        """Add the pending step's sums to the window.

        Raises:
            TrainError: Its loss or gradient is not finite. Its weights are invalid, but were not saved.
        """
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        *summed, norm = pending.values()
        # In fp16 a gradient may overflow: the step was skipped, and the loss scale is reduced.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() >= _LEAST_SCALE
        if not (math.isfinite(summed[0]) and (overflow or math.isfinite(norm))):
            loss = summed[0] / pending.prompts
            raise TrainError(
                f"The loss became {loss:g}, the norm of its gradient {norm:g}, in step {pending.step}.",
                next="another --run with a lower learning_rate, or with precision=float32",
            )
        self.window = [a + b for a, b in zip(self.window, [*summed, pending.prompts], strict=True)]

    def _due_validation(self) -> bool:
        """Return whether the model is validated after this step."""
        config = self.config
        due = self.step == config.steps or self.step % config.validate_every == 0
        return bool(self.task.held_out) and self.step > 0 and due

    def _validate(self, stop_requested: threading.Event) -> None:
        """Validate the model. Raises _Stopped after a stop request; several processes finish before."""
        team = self.team
        mine = self.task.held_out[team.rank :: team.world]
        model = self.average or self.model
        training = model.training
        model.eval()
        rows = []
        for start in range(0, max(1, len(mine)), _VALIDATED):
            if stop_requested.is_set() and team.world == 1:
                model.train(training)
                raise _Stopped
            rows.append(self.task.validate(model, mine[start : start + _VALIDATED], team.device))
        self.validated = self.step
        summary = self.task.summary(np.concatenate(team.gathered(np.concatenate(rows))))
        score = self.task.score(summary)
        if score is not None:
            self.scores.append((self.step, score))
        self.journal.write({"kind": "validation", "step": self.step, "score": score} | summary)
        if self.journal.draws:
            self.journal.show(self.step, self.task.shown(model, self.task.held_out[:_SHOWN], team.device))
        model.train(training)
        self._clock()

    def _best(self) -> int | None:
        """Return the step with the best validation score; the first of equal ones."""
        return max(self.scores, key=lambda pair: pair[1])[0] if self.scores else None

    def _exhausted(self) -> bool:
        """Return whether the last `patience` validations had no better score."""
        since = sum(step > (self._best() or 0) for step, _ in self.scores)
        return 0 < self.config.patience <= since

    # ------------------------------------------------------------------------------------------------ keeping the state

    def _resume_newest(self) -> str:
        """Resume from the newest readable checkpoint.

        Returns:
            A remark on a newer, unreadable checkpoint; "" without one.

        Raises:
            TrainError: None of the checkpoints can be read.
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

    def _resume(self, path: Path) -> None:
        """Resume from a checkpoint. Raises ConfigError or TrainError for a checkpoint of another run."""
        state = checkpoint.load(path, self.model, self.average, self.optimizer, self._agree)
        self.step, self.window, self.init = state["step"], state["window"], state.get("init")
        self.scores = [(step, score) for step, score in state["scores"]]
        self.validated = state.get("validated", self.step)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def _agree(self, state: Record) -> None:
        """Raise ConfigError or TrainError if the state of a checkpoint is of a run with other settings or data.

        A setting that an older version did not know counts as its default, which changes nothing.
        """
        now = self.config.model_dump(mode="json")
        try:
            before = TrainConfig.model_validate(state["config"]).model_dump(mode="json")
        except ValidationError as error:
            fault = error.errors()[0]
            raise ConfigError(
                f"Cannot resume {self.folder}: another version of us43d wrote its settings "
                f"({'.'.join(map(str, fault['loc']))}: {fault['msg']}).",
                next=f"{command('train', '--run', 'NEW_NAME')}   (with the settings of the run)",
            ) from error
        free = FREE if self.config.by_aspect else FREE | {"micro_batch"}
        if changed := [name for name in now if name not in free and now[name] != before[name]]:
            was = listed(f"{name} was {before[name]!r}" for name in changed)
            raise ConfigError(
                f"Cannot resume {self.folder}: it was trained with other settings: {was}.",
                next=f"{command('train', '--run', self.folder.name, '--resume')}   (with those of the run)",
            )
        if state["corpus"] != self.corpus.digest:
            raise TrainError(
                f"Cannot resume {self.folder}: it was trained on a different corpus (digest {state['corpus']})."
            )

    def _save(self) -> None:
        if self.team.leads:
            config = json.loads(self.config.model_dump_json())
            state = {
                "config": config, "corpus": self.corpus.digest, "window": self.window, "init": self.init,
                "scores": self.scores, "validated": self.validated, "scaler": self.scaler.state_dict(),
            }  # fmt: skip
            meta, best = self._meta(), self._best()
            self.writer.save(
                self.step, self.model, self.average, self.optimizer, state,
                lambda model, place: self.task.save(model, place, meta),
                lambda place: card.write(place, meta, self.corpus, self.config, self.task.quality), best,
            )  # fmt: skip
        self._clock()

    def _meta(self) -> Record:
        """Make the record stored with the weights, which describes them without the run's folder."""
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
        """List the structures this run learns by name; those of the initial weights if it learns none."""
        if not self.config.structure_prompts:
            return dict(self.init.get("structures", {})) if self.init else {}
        counts = np.bincount(self.corpus.annotations["category"][self.task.annotations], minlength=1)
        return {
            str(one["id"]): one["name"]
            for one in self.corpus.categories
            if one["id"] < len(counts) and counts[one["id"]] >= _LEARNT
        }

    def _result(self, place: Path, *, stopped: bool) -> Result:
        best = self.folder / checkpoint.BEST
        return Result(
            place, self.folder, self.step, stopped, self.journal.of("step"), self.journal.of("validation"),
            best if best.is_dir() else None,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ how it goes

    def _note(self) -> None:
        """Log the steps since the last record: means over their prompts, and speed."""
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
            if team.on_gpu and config.task == "promptable":  # operations of other tasks are not counted
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
        """Restart the timer, so that validation and saving are not measured."""
        self._since, self._from = time.perf_counter(), self.step


# --------------------------------------------------------------------------------------------------------------- parts


def rate(config: TrainConfig, step: int) -> float:
    """Compute the factor of the learning rate in a step, counted from 0."""
    if step < config.warm_up:
        return 0.001 + 0.999 * step / config.warm_up  # from 0.001, as published
    if config.schedule == "steps":
        return config.decay ** sum(step >= at for at in config.milestones)
    done = (step - config.warm_up) / (config.steps - config.warm_up)
    return config.decay + (1 - config.decay) * 0.5 * (1 + math.cos(math.pi * done))


@contextlib.contextmanager
def _stop_requests(stopping: Callable[[], None]) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and Ctrl-C set, which call `stopping`; a second Ctrl-C ends the run immediately."""
    stop_requested = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and stop_requested.is_set():
            raise KeyboardInterrupt
        if not stop_requested.is_set():
            stop_requested.set()
            stopping()

    if threading.current_thread() is not threading.main_thread():  # handlers can only be set in the main thread
        yield stop_requested
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
