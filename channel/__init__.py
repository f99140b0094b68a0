"""Radio link and cell simulation for packets: numpy and scipy only, never torch."""
