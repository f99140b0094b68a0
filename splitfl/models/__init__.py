"""Model families, splitting a model into pieces, and loading one piece of a checkpoint."""
