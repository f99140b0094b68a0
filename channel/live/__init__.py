"""The same decisions on real packets: TUN devices, the wall clock, and who decides for the virtual one."""
