"""Model families, the cut, and loading one piece of a checkpoint."""
