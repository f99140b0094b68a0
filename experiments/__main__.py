"""`python -m experiments` is `splitfl`."""

from experiments.cli import main

main()
