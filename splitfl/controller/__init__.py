"""Chooses method, cut, rank and codec within a budget."""
