"""Runs an experiment on the machines of an inventory: deploy, run, status, collect, down."""
