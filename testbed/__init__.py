"""Real and emulated networks for experiments: namespaces, process launch, live links, overlay, diagnosis."""
