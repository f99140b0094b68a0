"""Building blocks of the methods: trainers, perturbations, scalar logs, auxiliary models."""
