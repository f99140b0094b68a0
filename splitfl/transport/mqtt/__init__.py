"""MQTT through a broker."""
