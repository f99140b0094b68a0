"""Radios: where samples are sent to and received from."""
