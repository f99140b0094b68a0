"""Experiment trackers: backends that receive the settings of a run, its metrics by round and its summary."""
