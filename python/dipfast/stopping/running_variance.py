"""Stop by the running variance of the outputs (ES-EMV)."""

from __future__ import annotations

from dataclasses import dataclass

from dipfast.model.loop_view import LoopView
from dipfast.state_dict import Values, tensor_of
from dipfast.stopping.patience import check_share, seek_minimum
from dipfast.stopping.rule import Decision, StopRule

__all__ = ["RunningVariance"]


@dataclass(frozen=True)
class RunningVariance(StopRule):
    r"""Stop at the minimum of the outputs' exponential moving variance (ES-EMV).

    .. math:: V_t = (1 - a) (V_{t-1} + \tfrac{a}{n} \| u_t - m_{t-1} \|^2),
              \quad m_t = m_{t-1} + a (u_t - m_{t-1})

    with u_t the output, m_t its running mean and n the number of its elements [1]_.  Unlike
    :class:`~dipfast.stopping.WindowedVariance` it keeps one image instead of a window of them.

    Parameters
    ----------
    rate
        Weight a of the newest output, in (0, 1); 0.1 as in the original.
    patience
        Share of all iterations without a new minimum after which to stop, in (0, 1]; a fifth, as
        the original's 1000 of 5000.

    Raises
    ------
    ValueError
        If rate or patience is out of its range.

    Notes
    -----
    The variance is computed from the beginning of the last stage.  As in the original the first
    iterations, here an eighth of all, are left out of the search for the minimum, because their
    variance still depends on where the running mean starts.

    References
    ----------
    .. [1] Wang et al., "Early Stopping for Deep Image Prior", TMLR 2023, arXiv:2112.06074.
    """

    rate: float = 0.1
    patience: float = 0.2

    def __post_init__(self) -> None:
        check_share("rate", self.rate)
        check_share("patience", self.patience, one=True)

    def update(self, state: LoopView, memory: Values) -> Decision:
        if not state.in_last_stage:
            return Decision(best=True)
        image = state.image
        if "mean" not in memory:
            memory.update(mean=image, variance=0.0, count=0)
        mean = tensor_of(memory, "mean")
        difference = image - mean
        mean += self.rate * difference  # in place: the tensor is the one in memory
        new = self.rate * float(difference.square().mean())
        variance = (1 - self.rate) * (float(memory["variance"]) + new)
        count = int(memory["count"]) + 1
        memory.update(variance=variance, count=count)
        if count <= state.iterations / 8:
            return Decision(best=True)
        return seek_minimum(
            variance, state, memory, patience=self.patience, name="the running variance"
        )
