"""What the air does to packets: numpy and scipy only, never torch."""
