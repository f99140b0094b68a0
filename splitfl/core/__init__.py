"""Messages, errors, state, checkpoints and events, shared by all packages."""
