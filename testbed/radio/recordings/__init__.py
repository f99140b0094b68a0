"""Recordings of samples in SigMF as radios."""
