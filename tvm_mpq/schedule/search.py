"""The search: every candidate of a layer once, in an order that does not depend on chance.

Spaces are small (tens of kernels), so the search is exhaustive where the trials allow it. Where
they do not, the best guess of every micro-kernel family is measured first, and then what the cost
model thinks fastest. What a database knows already is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tvm_mpq._tvm_compat import s_tir
from tvm_mpq.kernels.spec import KernelSpec
from tvm_mpq.schedule.metaschedule import derived_object, meta_schedule
from tvm_mpq.schedule.space import kernel_of, points, untiled

Candidate: Any = meta_schedule.MeasureCandidate


@derived_object
class StripCostModel(meta_schedule.cost_model.PyCostModel):
    """Cycles of a strip kernel: so much for a strip, so much for a pixel, by family and layer.

    TVM's own cost models look at loops and stores; in a micro-kernel call they see neither. Least
    squares over the measured candidates of one layer; a family needs two of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._measured: dict[tuple[KernelSpec, str], dict[KernelSpec, float]] = {}

    def load(self, path: str) -> None:
        """Nothing to load: the database holds the measurements."""

    def save(self, path: str) -> None:
        """Nothing to save: the database holds the measurements."""

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Remember the run times of candidates."""
        for candidate, result in zip(candidates, results, strict=True):
            if result.run_secs:
                self.learn(kernel_of(candidate.sch.mod), float(result.run_secs[0]))

    def learn(self, spec: KernelSpec, seconds: float) -> None:
        """Remember one measurement."""
        self._measured.setdefault(_family(spec), {})[spec] = seconds

    def predict(self, context: Any, candidates: Sequence[Any]) -> np.ndarray:
        """Scores, higher is faster: minus the predicted seconds; 0 where nothing is known."""
        return np.array([-self.seconds(kernel_of(one.sch.mod)) for one in candidates])

    def seconds(self, spec: KernelSpec) -> float:
        """Predicted seconds of ``spec``; 0 when too little of its family was measured."""
        known = self._measured.get(_family(spec), {})
        if len(known) < 2:
            return 0.0
        rows = np.array([_features(one) for one in known])
        weights, *_ = np.linalg.lstsq(rows, np.array(list(known.values())), rcond=None)
        return max(float(np.dot(_features(spec), weights)), 0.0)


def _family(spec: KernelSpec) -> tuple[KernelSpec, str]:
    return untiled(spec), spec.variant


def _features(spec: KernelSpec) -> tuple[float, float]:
    """(strips, pixels) of the whole layer; bands of a depthwise layer count as strips."""
    y = spec.output
    tiles = -(-y.width // spec.pixels) if spec.pixels else 1
    return float(-(-y.height // spec.rows) * tiles), float(y.height * y.width)


@derived_object
class InOrder(meta_schedule.search_strategy.PySearchStrategy):
    """Measures candidates in the order of ``ranked``, or as the cost model has it.

    Parameters
    ----------
    ranked: the candidates, best guess first; its length is the space.
    trials: most candidates to measure, those of the database included.
    known: candidates measured before -> cycles; they are not measured again.
    stopped: asked before each batch; True ends the search.
    """

    def __init__(
        self,
        ranked: Sequence[KernelSpec],
        trials: int,
        known: dict[KernelSpec, int],
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._ranked, self._trials = list(ranked), trials
        self._done = set(known)
        self._stopped = stopped
        self._model: Any = None
        self._points: dict[KernelSpec, s_tir.Schedule] = {}
        self._context: Any = None
        self._batch = 1

    def _initialize_with_tune_context(self, context: Any) -> None:
        self._context = context

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: Sequence[s_tir.Schedule],
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Take the points of the design spaces."""
        self._points = {kernel_of(p.mod): p for p in points(self._context.mod, design_spaces)}
        self._batch, self._model = num_trials_per_iter, cost_model

    def post_tuning(self) -> None:
        """Let go of the schedules."""
        self._points = {}

    def generate_measure_candidates(self) -> list[Any] | None:
        """The next batch; None when the trials are spent, all is measured, or it was stopped."""
        if self._stopped():
            return None
        batch = self._next(min(self._batch, self._trials - len(self._done)))
        self._done.update(batch)
        return [self._candidate(spec) for spec in batch] or None

    def notify_runner_results(self, candidates: Sequence[Any], results: Any) -> None:
        """Results reach the cost model and the database through measure callbacks."""

    def clone(self) -> InOrder:
        """A strategy that starts again."""
        return InOrder(self._ranked, self._trials, dict.fromkeys(self._done, 0), self._stopped)

    def _candidate(self, spec: KernelSpec) -> Any:
        return Candidate(self._points[spec], [])

    def _next(self, count: int) -> list[KernelSpec]:
        left = [spec for spec in guesses(self._ranked) if spec not in self._done]
        families = {spec.variant for spec in self._done}
        if left and len(self._ranked) > self._trials and self._model is not None:
            scores = self._model.predict(self._context, [self._candidate(spec) for spec in left])
            fresh = [spec.variant not in families for spec in left]
            # Python's sort is stable: where the model knows nothing, the order stays.
            order = sorted(range(len(left)), key=lambda i: (not fresh[i], -scores[i]))
            left = [left[i] for i in order]
        return left[: max(count, 0)]


def guesses(ranked: Sequence[KernelSpec]) -> list[KernelSpec]:
    """``ranked`` with the first of every family in front, so that few trials see them all."""
    first = list({spec.variant: spec for spec in reversed(ranked)}.values())
    first.sort(key=ranked.index)
    return [*first, *(spec for spec in ranked if spec not in first)]
