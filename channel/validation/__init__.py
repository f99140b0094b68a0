"""Checks of this package against closed-form results of radio theory, by row of the design's table."""

from channel.validation.check import Check, NotRunHere, Verdict, verdict
from channel.validation.table import CHECKS

__all__ = ["CHECKS", "Check", "NotRunHere", "Verdict", "verdict"]
