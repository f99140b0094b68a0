"""HTML reports and plots of runs."""

from experiments.report.pages import write_comparison, write_report

__all__ = ["write_comparison", "write_report"]
