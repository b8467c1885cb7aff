"""When enough is enough, without ground truth.

A stop rule sees one iteration after the other and says when to stop, and which was the best.
Each is in a file of its own; :class:`StopRule` says how to write another.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from dipfast.stopping.automatic import Automatic
from dipfast.stopping.discrepancy import Discrepancy
from dipfast.stopping.first_of import FirstOf
from dipfast.stopping.held_out import HeldOut
from dipfast.stopping.last_of import LastOf
from dipfast.stopping.never import Never
from dipfast.stopping.rule import Observable, StopRule, Verdict
from dipfast.stopping.running_variance import RunningVariance
from dipfast.stopping.time_limit import TimeLimit
from dipfast.stopping.windowed_variance import WindowedVariance

__all__ = [
    "RULES",
    "Automatic",
    "Discrepancy",
    "FirstOf",
    "HeldOut",
    "LastOf",
    "Never",
    "Observable",
    "RuleName",
    "RunningVariance",
    "StopRule",
    "TimeLimit",
    "Verdict",
    "WindowedVariance",
]

RuleName: TypeAlias = Literal["auto", "none", "discrepancy", "held_out", "es_wmv", "es_emv"]
RULES: dict[str, StopRule] = {
    "auto": Automatic(),
    "none": Never(),
    "discrepancy": Discrepancy(),
    "held_out": HeldOut(),
    "es_wmv": WindowedVariance(),
    "es_emv": RunningVariance(),
}
"""Rules by name; ``"auto"`` is the one that measured best (docs/stopping.md)."""

assert get_args(RuleName) == tuple(RULES)
