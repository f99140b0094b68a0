"""A long run in which everything breaks that can, and what must hold at its end."""
