"""`python -m experiments` is `splitfl`."""

from experiments.cli.main import main

main()
