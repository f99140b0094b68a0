"""Scenario files: parsing, validation, and the scenarios shipped with the package."""
