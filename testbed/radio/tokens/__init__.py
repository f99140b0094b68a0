"""Runs whose messages cross the waveform token by token."""
