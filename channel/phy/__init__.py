"""Modulation, coding, block errors and HARQ: what a transport block needs to get through."""
