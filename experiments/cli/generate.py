"""The command that lets a finished language model write."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from experiments.cli.imports import without_collections
from experiments.cli.options import AS_JSON


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("prompts", "--prompt", required=True, multiple=True, help="What to continue; may be repeated.")
@click.option("--max-new-tokens", type=int, default=128, show_default=True, help="The length of an answer.")
@click.option(
    "--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest token each time."
)
@click.option(
    "--top-p", type=float, default=1.0, show_default=True, help="Draw from the likeliest tokens of this mass."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
@click.option(
    "--template",
    default="auto",
    show_default=True,
    help="How a prompt becomes text: plain, alpaca, chat (a user's message), or auto (as in the run).",
)
@AS_JSON
@reports_errors
def generate(
    folder: Path,
    prompts: tuple[str, ...],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    template: str,
    as_json: bool,
) -> None:
    """Continue prompts with the language model that a run has finetuned.

    Where the run learnt answers, and the tokenizer has a chat template, a prompt is a user's message.
    """
    with without_collections():
        from experiments import commands
        from splitfl.server.generate import Sampling

    sampling = Sampling(
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, template=template
    )
    commands.generate(folder, prompts, sampling, as_json)
