"""Sessions that persist across connections, for gRPC and MQTT."""
