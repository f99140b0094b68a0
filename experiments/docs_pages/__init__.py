"""The reference pages of the documentation, generated from registries, settings, commands and docstrings."""

from experiments.docs_pages.pages import pages, write

__all__ = ["pages", "write"]
