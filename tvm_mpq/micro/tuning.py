"""Tuning: MetaSchedule with our own builder (arm-none-eabi-gcc) and runner, and a database.

``tune_layers`` measures the candidates of each layer and returns the fastest as a table. What
was measured is kept in a folder and read again when tuning goes on, for the same network or
another one with equal layers.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_mpq import kernels
from tvm_mpq import schedule as schedules
from tvm_mpq._tvm_compat import tvm
from tvm_mpq.emulator import MODEL_VERSION
from tvm_mpq.errors import InvalidValueError, MpqError
from tvm_mpq.files import temporary_folder
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.kernels.tuned import LayerClass, TunedRecord, TunedTable
from tvm_mpq.micro.measurements import Measurements
from tvm_mpq.micro.places import CLOCK_HZ, Place
from tvm_mpq.micro.single_layer import random_layer
from tvm_mpq.progress import Meter, meter
from tvm_mpq.schedule.metaschedule import derived_object, meta_schedule
from tvm_mpq.schedule.search import InOrder, StripCostModel
from tvm_mpq.schedule.space import canonical, design_spaces, kernel_of, workload

_KERNEL_FILE = "kernel.json"
_UNLIMITED = 1 << 30
_log = logging.getLogger(__name__)


@dataclass
class TuningResult:
    """What ``tune_layers`` found.

    Attributes
    ----------
    table: the fastest measured kernel of every layer class with a choice.
    estimated: cycles of the kernel that the estimate would have taken, by class.
    measured: candidates measured now; known: those that the database had.
    failures: kernel -> why it could not be measured. stopped: Ctrl-C ended the search early.
    """

    table: TunedTable = field(default_factory=TunedTable)
    estimated: dict[LayerClass, int] = field(default_factory=dict)
    measured: int = 0
    known: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


@dataclass
class _Task:
    """One layer class: its candidates, the cheapest by estimate first, and what they took."""

    layer: KernelSpec
    ranked: list[KernelSpec]
    cycles: dict[KernelSpec, int]

    @property
    def best(self) -> KernelSpec | None:
        """The fastest so far; of equals the one that was ranked first."""
        done = [spec for spec in self.ranked if spec in self.cycles]
        return min(done, key=self.cycles.__getitem__, default=None)


def tune_layers(
    layers: Sequence[KernelSpec],
    candidates_of: Callable[[KernelSpec], list[KernelSpec]],
    folder: Path,
    place: Place,
    *,
    trials: int,
) -> TuningResult:
    """Measure up to ``trials`` candidates of every layer class among ``layers``.

    Parameters
    ----------
    layers: as they come before a kernel is chosen. Classes with one candidate are left alone.
    candidates_of: the candidates of a layer, the cheapest by estimate first.
    folder: holds the databases; made when missing. A database is only read again with the kernels,
        cycle model and place that it was measured with.
    place: where candidates are built and run.
    trials: more than a layer has means exhaustive.

    The first Ctrl-C ends the search after the measurement that runs; what is done is kept.
    Raises ToolError without a compiler.
    """
    if trials < 1:
        raise InvalidValueError(f"trials: {trials}; expected at least 1")
    work = folder / f"{place.name}-{_stamp()}"
    database = Measurements(work)
    tasks = _tasks(layers, candidates_of, database.known)
    result = TuningResult(known=sum(len(task.cycles) for task in tasks))
    left = sum(max(min(trials, len(t.ranked)) - len(t.cycles), 0) for t in tasks)
    if left:
        with meter(left, "tuning") as bar, _interruptible() as stop, place:
            _search(tasks, database, place, trials, stop, _Recorder(tasks, database, result, bar))
        result.stopped = stop.is_set()
    records = [TunedRecord.of(t.best, t.cycles[t.best], place.model) for t in tasks if t.best]
    result.table = TunedTable(records)
    for task in tasks:
        if task.ranked[0] in task.cycles:
            result.estimated[LayerClass.of(task.layer)] = task.cycles[task.ranked[0]]
    return result


def _tasks(
    layers: Sequence[KernelSpec],
    candidates_of: Callable[[KernelSpec], list[KernelSpec]],
    known: dict[KernelSpec, dict[KernelSpec, int]],
) -> list[_Task]:
    tasks: dict[LayerClass, _Task] = {}
    for layer in map(canonical, layers):
        ranked = candidates_of(layer)
        if len(ranked) > 1 and LayerClass.of(layer) not in tasks:
            cycles = {s: n for s, n in known.get(layer, {}).items() if s in ranked}
            tasks[LayerClass.of(layer)] = _Task(layer, ranked, cycles)
    return list(tasks.values())


def _search(
    tasks: list[_Task],
    database: Measurements,
    place: Place,
    trials: int,
    stop: threading.Event,
    recorder: _Recorder,
) -> None:
    """Run MetaSchedule over the layers, one after the other.

    A scheduler over all of them at once would keep a layer's results until that layer's next turn.
    """
    model = StripCostModel()
    for index, task in enumerate(tasks):
        if stop.is_set():
            return
        for spec, cycles in task.cycles.items():
            model.learn(spec, cycles / CLOCK_HZ)
        with temporary_folder("tune") as scratch:
            meta_schedule.tune.tune_tasks(
                tasks=[_context(task, trials, stop)],
                task_weights=[1.0],
                work_dir=scratch,
                max_trials_global=_UNLIMITED,
                num_trials_per_iter=place.batch,
                builder=_Builder(place, Path(scratch)),
                runner=_Runner(place),
                database=meta_schedule.database.MemoryDatabase(),
                cost_model=model,
                measure_callbacks=[
                    _Record(recorder, index),
                    meta_schedule.measure_callback.UpdateCostModel(),
                ],
                task_scheduler="round-robin",
            )


def _context(task: _Task, trials: int, stop: threading.Event) -> Any:
    spaces = design_spaces(task.layer, task.ranked)
    return meta_schedule.TuneContext(
        workload(task.layer),
        target=tvm.target.Target("c"),
        space_generator=meta_schedule.space_generator.ScheduleFn(spaces, [], [], {}),
        search_strategy=InOrder(task.ranked, trials, task.cycles, stop.is_set),
        task_name=task.layer.name,
        rand_state=1,
        num_threads=1,
        logger=_log,
    )


@derived_object
class _Builder(meta_schedule.builder.PyBuilder):
    """From a point of the space to a folder with the firmware of that candidate."""

    def __init__(self, place: Place, folder: Path) -> None:
        super().__init__()
        self._place, self._folder = place, folder

    def build(self, build_inputs: Sequence[Any]) -> list[Any]:
        """One result for each input; an artifact is the path of the candidate's spec."""
        return [self._build(one.mod) for one in build_inputs]

    def _build(self, mod: Any) -> Any:
        result = meta_schedule.builder.BuilderResult
        spec = kernel_of(mod)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / _KERNEL_FILE).write_text(spec.to_json())
        try:
            self._place.build(random_layer(spec), folder)
        except (MpqError, OSError) as error:
            return result(None, str(error))
        return result(str(folder / _KERNEL_FILE), None)


@derived_object
class _Runner(meta_schedule.runner.PyRunner):
    """From the folder of a candidate to the seconds of its second run."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
        """Start the measurements; the futures wait for them."""
        return [self._start(Path(one.artifact_path)) for one in runner_inputs]

    def _start(self, path: Path) -> Any:
        layer = random_layer(KernelSpec.from_json(path.read_text()))
        return _Future(self._place.start(layer, path.parent))


@derived_object
class _Future(meta_schedule.runner.PyRunnerFuture):
    def __init__(self, wait: Callable[[], int]) -> None:
        super().__init__()
        self._wait = wait

    def done(self) -> bool:
        """MetaSchedule only asks to poll; ``result`` waits."""
        return True

    def result(self) -> Any:
        """Seconds at the target's clock, or what went wrong."""
        try:
            return meta_schedule.runner.RunnerResult([self._wait() / CLOCK_HZ], None)
        except (MpqError, OSError) as error:
            return meta_schedule.runner.RunnerResult(None, str(error))


class _Recorder:
    """Keeps every finished measurement at once, and says how far tuning is."""

    def __init__(
        self, tasks: Sequence[_Task], database: Measurements, result: TuningResult, bar: Meter
    ) -> None:
        self._tasks, self._database, self._result, self._bar = tasks, database, result, bar

    def add(self, index: int, candidate: Any, error: str | None, result: Any) -> None:
        """Keep one candidate of task ``index``: ``error`` if it did not build, else its result."""
        task, spec = self._tasks[index], kernel_of(candidate.sch.mod)
        if error or not result.run_secs:
            self._result.failures[spec.symbol] = error or str(result.error_msg)
        else:
            task.cycles[spec] = round(float(result.run_secs[0]) * CLOCK_HZ)
            self._result.measured += 1
            self._database.add(task.layer, spec, task.cycles[spec])
        best = task.best
        text = f"{best.name}: {task.cycles[best]} cycles" if best else "nothing measured"
        x = task.layer.x
        self._bar.advance(f"{x.height}x{x.width}x{x.channels}, best so far {text}")


@derived_object
class _Record(meta_schedule.measure_callback.PyMeasureCallback):
    def __init__(self, recorder: _Recorder, index: int) -> None:
        super().__init__()
        self._recorder, self._index = recorder, index

    def apply(
        self,
        task_scheduler: Any,
        task_id: int,
        measure_candidates: Sequence[Any],
        builder_results: Sequence[Any],
        runner_results: Sequence[Any],
    ) -> None:
        """Hand a finished batch to the recorder."""
        for candidate, built, ran in zip(
            measure_candidates, builder_results, runner_results, strict=True
        ):
            error = str(built.error_msg) if built.error_msg else None
            self._recorder.add(self._index, candidate, error, ran)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as always."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(_number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _stamp() -> str:
    """What measurements depend on: the cycle model and every source of the kernels."""
    digest = hashlib.sha256(MODEL_VERSION.encode())
    for package in (kernels, schedules):
        root = Path(package.__path__[0])
        for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".c", ".h")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
