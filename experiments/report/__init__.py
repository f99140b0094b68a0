"""The pages and pictures that people look at."""

from experiments.report.pages import write_comparison, write_report

__all__ = ["write_comparison", "write_report"]
