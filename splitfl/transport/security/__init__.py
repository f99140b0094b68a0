"""Certificates, tokens and keys."""
