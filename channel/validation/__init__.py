"""What radio theory says against what this package does: the design's table of checks, row by row."""

from channel.validation.check import Check, NotRunHere, Verdict, verdict
from channel.validation.table import CHECKS

__all__ = ["CHECKS", "Check", "NotRunHere", "Verdict", "verdict"]
