"""peft's own settings for adapters whose modules are named one by one."""

from collections.abc import Mapping, Sequence

from peft import IA3Config, LoHaConfig
from peft import LoraConfig as PeftLoraConfig

from splitfl.models.families import family_of


def lora_config(model_type: str, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> PeftLoraConfig:
    """Explicit names, with the first module's rank and alpha for all that have no others."""
    names = sorted(ranks)
    rank, alpha = (ranks[names[0]], alphas[names[0]]) if names else (1, 1.0)
    return PeftLoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only ever divides it by the rank
        target_modules=names,
        rank_pattern={name: ranks[name] for name in names if ranks[name] != rank},
        alpha_pattern={name: alphas[name] for name in names if alphas[name] != alpha},
        fan_in_fan_out=family_of(model_type).fan_in_fan_out,
        lora_dropout=0.0,
        bias="none",
    )


def loha_config(ranks: Mapping[str, int], alphas: Mapping[str, float]) -> LoHaConfig:
    """Explicit names, each with a rank and an alpha of its own."""
    return LoHaConfig(
        target_modules=sorted(ranks), rank_pattern=dict(ranks), alpha_pattern=dict(alphas), init_weights=True
    )


def ia3_config(model_type: str, names: Sequence[str]) -> IA3Config:
    """Explicit names, each with a factor for every number that it puts out."""
    fan = family_of(model_type).fan_in_fan_out
    return IA3Config(target_modules=list(names), feedforward_modules=[], fan_in_fan_out=fan)
