"""gRPC on one port, outbound from the clients."""
