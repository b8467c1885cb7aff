"""Recovery: find iterations in which the loss jumps up, and undo them."""

from __future__ import annotations

import math
import statistics

from dipfast.prior.loop import DeepImagePrior, State
from dipfast.state_dict import Values, flatten, subtree

__all__ = ["Recovery"]

# An iteration is a spike if its data term exceeds the median by this factor, 5 dB, as in the code
# of the DIP paper.
_SPIKE = 10 ** (5 / 10)
# The median is that of so many iterations; a copy of the state is made as often.
_RECENT = 25
# With fewer iterations than this the median says too little.
_FEWEST = 10
# After more failures than this the fit is given up.
_FAILURES = 5


class Recovery:
    """Check every iteration, and undo those in which the loss jumps up or is not finite.

    Sometimes a step takes the image far from the measurement.  An iteration whose data term is 5 dB
    above the median of the recent ones is a spike: the weights are reset to a copy of some
    iterations ago, and the fit continues from there with other noise, as in the code of the DIP
    paper.  If the loss is not finite, or one spike follows another, the learning rate is halved as
    well.  Running average, stop rule and observers never see such an iteration.

    Parameters
    ----------
    prior
        The loop that is watched, and reset.

    Attributes
    ----------
    spikes
        The number of spikes so far.
    failures
        The number of losses so far that were not finite.
    returned_to
        Iteration and loss whose images the loop has because the iterations after it were undone:
        iteration 0 is that before the first; None if it has those of its last iteration.
    """

    def __init__(self, prior: DeepImagePrior) -> None:
        self.prior = prior
        self.spikes = 0
        self.failures = 0
        self.returned_to: tuple[int, float] | None = None
        self._recent: list[float] = []
        self._good = self._copy(0, math.nan)
        # A copy becomes the state to return to only if the next iteration is good: the step that
        # led to the copy may be the one that makes the loss jump.
        self._candidate: Values | None = None
        self._has_just_reset = False

    @property
    def gave_up(self) -> bool:
        """Say whether the loss was not finite so often that the fit is to be given up."""
        return self.failures > _FAILURES

    def check(self, state: State) -> bool:
        """Return whether an iteration is good; if it is not, reset the loop.

        Parameters
        ----------
        state
            The newest iteration of the loop.

        Returns
        -------
        bool
            False for a spike, and for a loss that is not finite.
        """
        if state.first_in_stage:
            self._recent.clear()  # losses of different objectives are not comparable
        value, data, _ = state.numbers
        if not math.isfinite(value):
            self.failures += 1
            self._reset(slower=True)
            return False
        if len(self._recent) >= _FEWEST and data > _SPIKE * statistics.median(self._recent):
            self.spikes += 1
            self._reset(slower=self._has_just_reset)
            return False
        self.returned_to = None
        self._recent = [*self._recent[1 - _RECENT :], data]
        if self._candidate is not None:
            self._good, self._candidate, self._has_just_reset = self._candidate, None, False
        if state.iteration % _RECENT == 0:
            self._candidate = self._copy(state.iteration, value)
        return True

    def forget(self) -> None:
        """Free the memory of the copies, once the fit has ended."""
        self._good, self._candidate = {}, None

    def state_dict(self) -> Values:
        """Return the state for a checkpoint.

        Returns
        -------
        dict
            Counts, recent losses, and the copies of the weights.
        """
        return {
            "spikes": self.spikes,
            "failures": self.failures,
            "back": int(self._has_just_reset),
            **flatten(
                {
                    "recent": {str(k): value for k, value in enumerate(self._recent)},
                    "good": self._good,
                    "candidate": self._candidate or {},
                }
            ),
        }

    def load(self, values: Values) -> None:
        """Restore a state of :meth:`state_dict`.

        Parameters
        ----------
        values
            The state.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the values are not such a state.
        """
        self.spikes, self.failures = int(values["spikes"]), int(values["failures"])
        self._has_just_reset = bool(values["back"])
        recent = subtree(values, "recent")
        self._recent = [float(recent[str(k)]) for k in range(len(recent))]
        self._good = subtree(values, "good")
        self._candidate = subtree(values, "candidate") or None

    def _copy(self, iteration: int, loss: float) -> Values:
        """Return a copy of what was learned by an iteration."""
        return self.prior.learned() | {"at": iteration, "loss": loss}

    def _reset(self, slower: bool) -> None:
        self.prior.load(self._good)
        self.returned_to = int(self._good["at"]), float(self._good["loss"])
        self._candidate = None
        self._has_just_reset = True
        if slower:
            self.prior.learning_rate /= 2
