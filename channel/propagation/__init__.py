"""Path loss, shadowing, fading, interference and noise: from positions to SINR."""
