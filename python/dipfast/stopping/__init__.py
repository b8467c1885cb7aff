"""Decide when to stop a fit, without ground truth.

A stop rule is given one iteration after the other and decides when to stop, and which iteration
is the best.  :class:`StopRule` describes how to write a rule of your own.
"""

from __future__ import annotations

from dipfast.model.loop_view import LoopView
from dipfast.settings.names import RULE_NAMES
from dipfast.stop_reason import StopReason
from dipfast.stopping.automatic import Automatic
from dipfast.stopping.bootstrap import Bootstrap
from dipfast.stopping.combine import FirstOf, LastOf
from dipfast.stopping.discrepancy import Discrepancy
from dipfast.stopping.held_out import HeldOut
from dipfast.stopping.never import Never
from dipfast.stopping.rule import Decision, StopRule
from dipfast.stopping.running_variance import RunningVariance
from dipfast.stopping.windowed_variance import WindowedVariance

__all__ = [
    "RULES",
    "Automatic",
    "Bootstrap",
    "Decision",
    "Discrepancy",
    "FirstOf",
    "HeldOut",
    "LastOf",
    "LoopView",
    "Never",
    "RunningVariance",
    "StopReason",
    "StopRule",
    "WindowedVariance",
]

RULES: dict[str, StopRule] = {
    "auto": Automatic(),
    "none": Never(),
    "discrepancy": Discrepancy(),
    "held_out": HeldOut(),
    "bootstrap": Bootstrap(),
    "es_wmv": WindowedVariance(),
    "es_emv": RunningVariance(),
}
"""Rules by name; ``"auto"`` is the one with the best results (docs/stopping.md)."""

assert tuple(RULES) == RULE_NAMES
