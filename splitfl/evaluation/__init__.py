"""Evaluation of finished models: metrics, generated texts and their scores."""
