"""Diagnosis of machines and network paths before a run, with the transports that will work."""
