"""Tokens over a radio waveform."""
