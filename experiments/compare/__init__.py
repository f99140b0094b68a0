"""Methods laid side by side: the same start, data, order and link, within the same budget."""
