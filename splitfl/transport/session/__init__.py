"""Sessions that survive broken connections, for gRPC and MQTT."""
