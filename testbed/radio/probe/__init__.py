"""What a radio hears, and what is wrong with it."""
