"""Comparison of methods with equal initial weights, data, sample order and link, within a budget."""
