"""The channel at the level of complex baseband samples."""
