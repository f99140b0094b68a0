"""Federated split learning of Hugging Face models over wireless links."""
