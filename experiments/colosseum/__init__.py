"""Commands for Colosseum and similar testbeds, imported when they run."""
