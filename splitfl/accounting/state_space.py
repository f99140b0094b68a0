"""FLOPs of the scan of a block with a state space (Mamba).

Matrix products only, as in flops.py: Mamba reads its state at every token (Gu and Dao, 2023, section 3);
Mamba-2 computes chunks of tokens (Dao and Gu, 2024, section 6), the last of which may have padding.
"""

from transformers import PretrainedConfig


def scan_flops(config: PretrainedConfig, batch: int, tokens: int) -> int:
    """FLOPs of the forward pass of one block; each product takes two of its size backward."""
    states: int = config.state_size
    if config.model_type == "mamba":
        channels: int = config.intermediate_size
        return 2 * batch * tokens * channels * states
    heads: int = config.num_heads
    width, length = heads * config.head_dim, config.chunk_size
    chunks: int = -(-tokens // length)
    within_chunks: int = chunks * length**2 * (heads * states + width) + 2 * chunks * length * width * states
    across_chunks: int = (chunks + 1) ** 2 * width * states
    return 2 * batch * (within_chunks + across_chunks)
