"""The physical layer: modulation, coding, block errors and HARQ of transport blocks."""
