"""Generates bler_law.json: an LDPC link simulation of 5G NR, the fit to it, and the betas of EESM."""
