"""Texts for other testbeds: a profile for POWDER and console commands for ORBIT and COSMOS."""
