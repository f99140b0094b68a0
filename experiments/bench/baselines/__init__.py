"""Hand-written loops that the product is compared with."""
