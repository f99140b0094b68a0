"""Looks at machines and the ways between them before a run, and says which transport will work."""
