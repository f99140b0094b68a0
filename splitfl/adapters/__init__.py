"""peft adapters on the pieces of a model, and their export."""
