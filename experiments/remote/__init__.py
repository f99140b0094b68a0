"""The commands of `splitfl testbed` on an inventory, and what they print."""
