"""Checkpoints in the layout of the Hugging Face hub: where they are, and what they contain."""
