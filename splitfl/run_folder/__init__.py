"""The folder that a run leaves behind: writing, reading and resuming it."""
