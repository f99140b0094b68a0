"""Scenario files: reading, checking, and the scenarios that come with the package."""
