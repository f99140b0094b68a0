"""A packet modem: OFDM with the LDPC codes and modulation schemes of 5G NR, on complex samples. No I/O.

`Modulator` and `Receiver` are in the modules of these names. Their import raises MissingNumba without numba.
"""
