"""Where bler_law.json comes from: a simulation of 5G NR's code, the fit to it, and the betas of EESM."""
