"""How many clients' work becomes one: turns, aggregation."""
