"""The client's side of a run."""
