"""Training, top to bottom: what is trained on, the model, one step after the other, what is kept.

The run's folder:

    log.jsonl       one record a line: the run (config, corpus, licences, versions, device), steps, validations
    checkpoints/    step_<n>/, each complete (checkpoint.py)
    weights/        the result: model.safetensors and config.json
    tensorboard/    where TensorBoard is installed

Under torchrun every process runs `train`; the first one writes.
"""

import contextlib
import copy
import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import us43d
from us43d import atomic
from us43d.errors import ConfigError, LicenceError, TrainError, WeightsError, listed
from us43d.harmonize.corpus import Corpus
from us43d.train import checkpoint, flops, lora, weights
from us43d.train.config import TrainConfig
from us43d.train.data import Draws, batches
from us43d.train.losses import PARTS, Objective
from us43d.train.model import UltraSam
from us43d.train.validate import held_out, summary, validate

__all__ = ["Result", "licences", "rate", "train"]

Progress = Callable[[int, int | None], None]
Record = dict[str, Any]

#: What may differ when a run goes on: it changes how or how often, never what is computed.
FREE = {"compile", "checkpointing", "workers", "validate_every", "save_every", "keep", "log_every"}


@dataclass(frozen=True)
class Result:
    """weights: folder of the final weights, or of the last checkpoint if the run was stopped. curve, validation: the
    log's records. stopped: a signal ended the run before its last step; resuming goes on."""

    weights: Path
    run: Path
    step: int
    stopped: bool
    curve: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)


def train(
    config: TrainConfig,
    corpus: Corpus,
    run_folder: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    report: Callable[[Record], None] | None = None,
) -> Result:
    """Train a model on a corpus.

    init: weights to start from, of any known form; random ones if None. resume: go on from the newest checkpoint in
    `run_folder`, or begin where there is none. progress: called with (step, steps). report: called with every record of
    the log. SIGTERM saves a checkpoint and returns. Raises ConfigError, LicenceError, UnknownName, WeightsError,
    TrainError, StorageError; the checkpoints of the run stay as they are.
    """
    with _team(device) as team:
        return _Run(config, corpus, Path(run_folder), team, init, resume, progress, report).train()


# ----------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class _Team:
    """The processes that train together, and which of them this is."""

    rank: int
    world: int
    device: torch.device

    def sums(self, values: list[float] | torch.Tensor) -> list[float]:
        """The values summed over all processes."""
        total = torch.as_tensor(values, dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gathered(self, rows: Any) -> list[Any]:
        """What each process has, in order of rank."""
        out = [None] * self.world
        if self.world == 1:
            return [rows]
        dist.all_gather_object(out, rows)
        return out


@contextlib.contextmanager
def _team(device: str) -> Iterator[_Team]:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if torch.device(device).type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"There is no device {device!r}: PyTorch finds no GPU.", next="us43d doctor")
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if world > 1 or device == "cuda" else device
        torch.cuda.set_device(device)
    if world == 1 or dist.is_initialized():
        yield _Team(rank, world, torch.device(device))
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield _Team(rank, world, torch.device(device))
    finally:
        dist.destroy_process_group()


# ----------------------------------------------------------------------------------------------------------- one run


class _Run:
    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        folder: Path,
        team: _Team,
        init: Path | None,
        resume: bool,
        progress: Progress | None,
        report: Callable[[Record], None] | None,
    ) -> None:
        self.config, self.corpus, self.folder, self.team = config, corpus, folder, team
        self.progress, self.report = progress, report
        self.checkpoints = folder / "checkpoints"
        self.log = folder / "log.jsonl"
        if config.batch % (config.micro_batch * team.world):
            raise ConfigError(
                f"batch {config.batch} cannot be shared by {team.world} processes of micro_batch {config.micro_batch}."
            )
        if self.log.exists() and not resume:
            raise ConfigError(f"{folder} holds a run already.", next="the same with --resume, or another --run")
        self.licences = licences(corpus, config)
        self.draws = Draws(corpus, config)
        self.validated = held_out(corpus, config)

        model = _initial(config, init)
        if config.lora:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                lora.adapt(model, config.lora)
        self.model = model.to(team.device).train()
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema else None
        model.image_encoder.checkpointing = config.checkpointing
        self.trained = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=team.device.type == "cuda",
        )
        self.step = 0
        self.window = [0.0] * (len(PARTS) + 1)  # sums since the last record, prompts last
        self.records: list[Record] = []
        found = checkpoint.latest(self.checkpoints) if resume else None
        if found:
            self._resume(found)
        if config.compile:
            self.model.image_encoder.compile()
        objective = Objective(self.model, config)
        self.objective: Any = objective
        if team.world > 1:
            self.objective = DistributedDataParallel(objective)

    def _resume(self, found: Path) -> None:
        state = checkpoint.load(found, self.model, self.average, self.optimizer)
        # Through JSON, in which the saved one was: tuples become lists.
        now = json.loads(self.config.model_dump_json())
        changed = [n for n in now if n not in FREE and now[n] != state["config"].get(n)]
        if changed:
            was = listed(f"{name} was {state['config'].get(name)!r}" for name in changed)
            raise ConfigError(f"The run in {self.folder} was begun with another configuration: {was}.")
        if state["corpus"] != self.corpus.digest:
            raise TrainError(f"The run in {self.folder} was begun on another corpus (digest {state['corpus'][:12]}…).")
        self.step, self.window = state["step"], state["window"]

    # -------------------------------------------------------------------------------------------------------- training

    def train(self) -> Result:
        config, team = self.config, self.team
        if team.rank == 0:
            self._open()
        board = _board(self.folder) if team.rank == 0 else None
        parts = batches(self.draws, self.step, team.rank, team.world, pin=team.device.type == "cuda")
        per_step = config.batch // (config.micro_batch * team.world)
        self._clock()
        with _asked_to_stop() as asked:
            while self.step < config.steps:
                micro = [next(parts) for _ in range(per_step)]
                prompts, stop = team.sums([sum(len(each.labels) for each in micro), asked.is_set()])
                if stop:
                    self._save()
                    return self._result(stopped=True)
                self._learn(micro, int(prompts))
                self.step += 1
                if self.progress and team.rank == 0:
                    self.progress(self.step, config.steps)
                last = self.step == config.steps
                if last or self.step % config.log_every == 0:
                    self._note(board)
                if self.validated and (last or self.step % config.validate_every == 0):
                    self._validate(board)
                if last or self.step % config.save_every == 0:
                    self._save()
        return self._result(stopped=False)

    def _learn(self, micro: list[Any], prompts: int) -> None:
        """One step of the optimizer on the micro-batches of this process. prompts: of all processes."""
        config, team = self.config, self.team
        now = config.learning_rate * rate(config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = now
        # Dropout depends on the step, so that a resumed run draws what an uninterrupted one would.
        torch.manual_seed(int(np.random.SeedSequence([config.seed, self.step, team.rank]).generate_state(1)[0]))
        totals = torch.zeros(len(PARTS), device=team.device)
        for number, batch in enumerate(micro):
            waits = team.world > 1 and number + 1 < len(micro)
            with self.objective.no_sync() if waits else contextlib.nullcontext():
                loss, sums = self.objective(batch.to(team.device))
                # DistributedDataParallel takes the mean over processes; the loss is the mean over all prompts.
                (loss * (team.world / prompts)).backward()
            totals += sums
        summed = team.sums(totals)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, config.clip)
        if not (math.isfinite(summed[0]) and math.isfinite(float(norm))):
            raise TrainError(
                f"The loss became {summed[0] / prompts} (norm of the gradient {float(norm)}) at step {self.step + 1}.",
                disk=f"The run's checkpoints are intact in {self.checkpoints}.",
                next="the same with --resume and a lower learning_rate under another --run, or precision=float32",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            # Fast at first, so that the random beginning is soon forgotten.
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.window = [a + b for a, b in zip(self.window, [*summed, prompts], strict=True)]

    def _validate(self, board: Any) -> None:
        config, team = self.config, self.team
        model = self.average if self.average is not None else self.model
        mine = self.validated[team.rank :: team.world]
        table = np.concatenate(
            team.gathered(validate(model, self.corpus, mine, team.device, config.precision == "bf16"))
        )
        if team.rank == 0:
            self._write({"kind": "validation", "step": self.step} | summary(table, self.corpus), board)
        self._clock()

    # ------------------------------------------------------------------------------------------------------- recording

    def _open(self) -> None:
        """Begin the log, or go on with it from the records of the steps that are kept."""
        checkpoint.tidy(self.checkpoints)
        with atomic.storage_errors(self.folder, "Nothing was changed on disk."):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.log.exists():
                kept = [each for each in _records(self.log) if each.get("step", 0) <= self.step]
                atomic.write_bytes(self.log, "".join(json.dumps(each) + "\n" for each in kept).encode())
                self.records = [each for each in kept if each["kind"] in ("step", "validation")]
        self._write(self._first_record())

    def _first_record(self) -> Record:
        corpus, device = self.corpus, self.team.device
        on_gpu = device.type == "cuda"
        counts = {name: int(number) for name, number in corpus.facts["images"].items()}
        return {
            "kind": "resumed" if self.step else "run",
            "step": self.step,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": json.loads(self.config.model_dump_json()),
            "corpus": {
                "release": corpus.facts["release"],
                "digest": corpus.digest,
                "images": counts,
                "sources": {each["name"]: each["digest"] for each in corpus.sources},
            },
            "drawn": {
                "images": len(np.unique(corpus.annotations["image"][self.draws.annotations])),
                "instances": len(self.draws.annotations),
                "validation_images": len(self.validated),
            },
            "licences": self.licences,
            "versions": {
                "us43d": us43d.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "cuda": torch.version.cuda,
            },
            "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
            "processes": self.team.world,
            "threads": torch.get_num_threads(),
        }

    def _write(self, record: Record, board: Any = None) -> None:
        with atomic.storage_errors(self.log, "The run's checkpoints are intact."), self.log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if record["kind"] in ("step", "validation"):
            self.records.append(record)
        if board is not None:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    board.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            board.flush()
        if self.report:
            self.report(record)

    def _note(self, board: Any) -> None:
        """A record of the steps since the last one; every process forgets them."""
        *sums, prompts = self.window
        self.window = [0.0] * len(self.window)
        seconds, steps = time.perf_counter() - self._since, self.step - self._from
        if self.team.rank == 0:
            config, team = self.config, self.team
            record = {"kind": "step", "step": self.step}
            record |= {name: value / prompts for name, value in zip(PARTS, sums, strict=True)}
            record |= {"learning_rate": config.learning_rate * rate(config, self.step - 1)}
            if steps:
                record |= {
                    "seconds_per_step": seconds / steps,
                    "images_per_second": config.batch * steps / seconds,
                    "seconds_left": seconds / steps * (config.steps - self.step),
                }
                if team.device.type == "cuda":
                    best = flops.peak(torch.cuda.get_device_name(team.device))
                    done = flops.step(config.model, config.batch, round(prompts / steps)) * steps / seconds
                    record["mfu"] = done / (best * team.world) if best and config.precision == "bf16" else None
                    record["peak_gigabytes"] = torch.cuda.max_memory_allocated(team.device) / 1e9
            self._write(record, board)
        self._clock()

    def _clock(self) -> None:
        """Time the steps from here, so that validation and saving are not counted in."""
        self._since, self._from = time.perf_counter(), self.step

    def _meta(self) -> Record:
        last = next((each for each in reversed(self.records) if each["kind"] == "validation"), None)
        return {
            "run": self.folder.name,
            "step": self.step,
            "corpus": self.corpus.digest,
            "licences": self.licences,
            "validation": last,
            "us43d": us43d.__version__,
        }

    def _save(self) -> None:
        if self.team.rank == 0:
            state = {
                "config": json.loads(self.config.model_dump_json()),
                "corpus": self.corpus.digest,
                "window": self.window,
            }
            checkpoint.save(
                self.checkpoints, self.step, self.model, self.average, self.optimizer, state, self._meta(),
                self.config.keep,
            )  # fmt: skip
        self._clock()

    def _result(self, *, stopped: bool) -> Result:
        place = checkpoint.latest(self.checkpoints) or self.checkpoints
        if not stopped:
            place = self.folder / "weights"
            if self.team.rank == 0:
                weights.save(checkpoint.plain(self.average or self.model), place, self._meta())
        curve = [each for each in self.records if each["kind"] == "step"]
        tested = [each for each in self.records if each["kind"] == "validation"]
        return Result(place, self.folder, self.step, stopped, curve, tested)


# --------------------------------------------------------------------------------------------------------------- parts


def rate(config: TrainConfig, step: int) -> float:
    """The factor of the learning rate at a step, counted from 0."""
    if step < config.warm_up:
        # From a thousandth up, as the published schedule.
        return 0.001 + 0.999 * step / config.warm_up
    if config.schedule == "steps":
        return config.decay ** sum(step >= at for at in config.milestones)
    done = (step - config.warm_up) / (config.steps - config.warm_up)
    return config.decay + (1 - config.decay) * 0.5 * (1 + math.cos(math.pi * done))


def licences(corpus: Corpus, config: TrainConfig) -> Record:
    """The sources trained on by licence, and whether they may be used commercially.

    Raises LicenceError with config.commercial if a source forbids that or leaves it open.
    """
    used = [each for each in corpus.sources if not config.sources or each["name"] in config.sources]
    by_licence: dict[str, list[str]] = {}
    for each in used:
        by_licence.setdefault(each["licence"]["title"], []).append(each["name"])
    answers = {each["name"]: each["licence"]["commercial"] for each in used}
    forbidden = [name for name, answer in answers.items() if answer is False]
    unknown = [name for name, answer in answers.items() if answer is None]
    if config.commercial and (forbidden or unknown):
        fine = [name for name, answer in answers.items() if answer]
        raise LicenceError(
            f"Commercial use is forbidden by {listed(forbidden, 60) or 'none'} and unsettled for "
            f"{listed(unknown, 60) or 'none'}.",
            next=f"us43d corpus {' '.join(fine)} --release commercial" if fine else "us43d licences --commercial",
        )
    commercial = False if forbidden else None if unknown else True
    return {"by_licence": by_licence, "commercial": commercial, "forbidden": forbidden, "unknown": unknown}


def _initial(config: TrainConfig, init: Path | None) -> UltraSam:
    if init is None:
        return UltraSam.random(config.model, config.seed)
    loaded = weights.load(init)
    model = UltraSam(config.model)
    try:
        weights.fit(model, weights.adapted(loaded, config.model.mlp_residual))
    except WeightsError as error:
        raise WeightsError(f"{init} does not fit the model of the configuration: {error.what}") from error
    return model


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM, which does nothing else meanwhile."""
    asked = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _records(log: Path) -> Iterator[Record]:
    """The records of a log; a last line that was cut off is left out."""
    for line in log.read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def _board(folder: Path) -> Any:
    """A writer for TensorBoard, None where that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard")  # type: ignore[no-untyped-call]
