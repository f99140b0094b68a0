"""Real-time emulation of a link or a cell on real IP packets, through TUN devices and the wall clock."""
