"""Federated aggregation: service order, client selection, aggregators, staleness, server optimisers."""
