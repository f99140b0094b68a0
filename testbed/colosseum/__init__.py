"""Colosseum and similar testbeds: batch jobs, radio API scripts, images, scenarios, rehearsals."""
