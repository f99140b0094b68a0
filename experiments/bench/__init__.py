"""How fast and how large the product is beside what anyone would write without it: ratios within one run."""
