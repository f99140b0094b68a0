"""Real machines, and what stands in for them: networks, launching, radios."""
