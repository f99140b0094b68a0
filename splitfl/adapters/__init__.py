"""Adapters on the pieces of a model, by peft, and their export."""
