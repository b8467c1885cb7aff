"""Finding a fit that has gone astray, and bringing it back."""

from __future__ import annotations

import math
import statistics

from dipfast.prior.loop import DeepImagePrior, State
from dipfast.state_dict import Values, flatten, subtree

__all__ = ["Recovery"]

# As in the original: the fit to the measurement falls by 5 dB.
_SPIKE = 10 ** (5 / 10)
# Iterations whose median is compared with; iterations from one good state to the next.
_RECENT = 25
_FEWEST = 10
_FAILURES = 5


class Recovery:
    """Looks at every iteration before anybody else, and goes back if it is a bad one.

    Adam now and then makes a step that throws the image far off.  An iteration whose data
    term is 5 dB above the median of the last ones is a spike: the weights go back to those
    of some iterations ago, and the fit goes on from there with other noise, as in the
    original.  If the loss is not finite, or a spike follows on a spike, the learning rate is
    halved besides.  Running average and stop rule never see such an iteration.

    Attributes
    ----------
    spikes, failures
        How many there were, and how many losses that were not finite.
    """

    def __init__(self, prior: DeepImagePrior) -> None:
        self.prior = prior
        self.spikes = 0
        self.failures = 0
        self._recent: list[float] = []
        self._good = prior.learned()
        # The step after it may be the one that breaks everything: it has to prove itself.
        self._candidate: Values | None = None
        self._back = False

    @property
    def gave_up(self) -> bool:
        """Whether going back has failed to help too often."""
        return self.failures > _FAILURES

    def check(self, state: State) -> bool:
        """Whether the iteration is a good one; if not, the loop has been taken back."""
        if state.first_in_stage:
            self._recent.clear()  # another goal, another loss
        data, value = float(state.terms.data), float(state.terms.value)
        if not math.isfinite(value):
            self.failures += 1
            self._go_back(slower=True)
            return False
        if len(self._recent) >= _FEWEST and data > _SPIKE * statistics.median(self._recent):
            self.spikes += 1
            self._go_back(slower=self._back)
            return False
        self._recent = [*self._recent[1 - _RECENT :], data]
        if self._candidate is not None:
            self._good, self._candidate, self._back = self._candidate, None, False
        if state.iteration % _RECENT == 0:
            self._candidate = self.prior.learned()
        return True

    def forget(self) -> None:
        """Let go of the states to go back to."""
        self._good, self._candidate = {}, None

    def state_dict(self) -> Values:
        """All that a run that is resumed has to know."""
        return {
            "spikes": self.spikes,
            "failures": self.failures,
            "back": int(self._back),
            **flatten(
                {
                    "recent": {str(k): value for k, value in enumerate(self._recent)},
                    "good": self._good,
                    "candidate": self._candidate or {},
                }
            ),
        }

    def load(self, values: Values) -> None:
        """Go on from :meth:`state_dict`."""
        self.spikes, self.failures = int(values["spikes"]), int(values["failures"])
        self._back = bool(values["back"])
        recent = subtree(values, "recent")
        self._recent = [float(recent[str(k)]) for k in range(len(recent))]
        self._good = subtree(values, "good")
        self._candidate = subtree(values, "candidate") or None

    def _go_back(self, slower: bool) -> None:
        self.prior.load(self._good)
        self._candidate = None
        self._back = True
        if slower:
            self.prior.learning_rate /= 2
