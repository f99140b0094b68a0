"""A long run with injected faults, and the invariants checked at its end."""
