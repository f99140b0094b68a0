"""Messages, errors, state, checkpoints and events: what every other package may use."""
