"""A server's body on several ranks, which torchrun starts."""
