"""The folder of a run: creating, reading and resuming it."""
