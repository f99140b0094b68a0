"""Units, arrays, seeded random streams, clocks, errors and the link protocol that all packages share."""
