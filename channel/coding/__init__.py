"""The LDPC codes of 5G NR: base graphs, rate matching, encoder and decoder."""
