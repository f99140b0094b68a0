"""A made-up run folder, as the report's tests have it."""

from tests.experiments.conftest import make_run

__all__ = ["make_run"]
