"""A cell: scheduling, link adaptation, HARQ and queues, slot by slot."""
