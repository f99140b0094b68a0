"""Which families transformers' tensor-parallel plans divide; an update of transformers may change them."""

from contextlib import suppress

import pytest

from splitfl.core.errors import ConfigError
from splitfl.models.families import FAMILIES, SEQ2SEQ_LM
from splitfl.models.tensor_plan import check_tensor_plan, tensor_plan
from tests.splitfl import tiny

DIVIDED = frozenset(
    {
        *("apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3"),
        *("gemma3_text", "glm", "glm4", "gpt_neox", "granite", "helium", "idefics3", "internvl", "llama"),
        *("llava", "llava_next", "llava_onevision", "ministral", "ministral3", "mistral", "mistral3"),
        *("nanochat", "olmo", "olmo2", "olmo3", "paligemma", "phi", "phi3", "qwen2", "qwen2_5_vl"),
        *("qwen2_vl", "qwen3", "seed_oss", "smollm3", "smolvlm", "starcoder2"),
    }
)


@pytest.mark.slow
def test_the_plans_divide_these_families() -> None:
    found = set()
    for model_type, family in FAMILIES.items():
        if family.hands_pictures or SEQ2SEQ_LM in family.kinds or model_type == "small_net":
            continue
        with suppress(ConfigError):
            check_tensor_plan(tiny.config(model_type), 2)
            found.add(model_type)
    assert found == DIVIDED


def test_the_plan_of_llama_divides_the_heads_and_the_feed_forward_part() -> None:
    assert tensor_plan(tiny.config("llama")) == {
        "self_attn.q_proj": "colwise",
        "self_attn.k_proj": "colwise",
        "self_attn.v_proj": "colwise",
        "self_attn.o_proj": "rowwise",
        "mlp.gate_proj": "colwise",
        "mlp.up_proj": "colwise",
        "mlp.down_proj": "rowwise",
    }


@pytest.mark.parametrize(
    ("model_type", "ranks", "match"),
    [
        ("gpt2", 2, "for a gpt2 model, got 'tensor': transformers has no tensor-parallel plan"),
        ("mixtral", 2, r"its plan divides experts \(moe_tp_experts, packed_colwise\)"),
        ("llama", 4, "server.ranks must divide the model's 2 num_key_value_heads .* got 4; 'fsdp' and"),
        ("llama", 3, "server.ranks must divide the model's 4 num_attention_heads"),
    ],
)
def test_a_model_that_the_plan_cannot_divide_is_refused(model_type: str, ranks: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_tensor_plan(tiny.config(model_type), ranks)


def test_heads_that_are_whole_on_every_rank_need_not_be_divisible() -> None:
    check_tensor_plan(tiny.config("phi3"), 3)
