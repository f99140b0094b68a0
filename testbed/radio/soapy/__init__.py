"""Radio hardware behind SoapySDR."""
