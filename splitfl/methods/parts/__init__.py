"""What the methods are made of: trainers, perturbations, scalar logs, auxiliary models."""
