"""PyTorch RPC, for closed networks."""
