"""`splitfl testbed image` and `template`: slow imports are inside the commands."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from experiments.cli.colosseum import RULE
from experiments.cli.exits import reports_errors


@click.command()
@click.option(
    "--for", "target", required=True, metavar="KIND", help="colosseum-srn, colosseum-gpu, docker or debian."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to build the image from.",
)
@click.option("--name", default="splitfl", show_default=True, help="The image's name.")
@click.option(
    "extras", "--extra", multiple=True, metavar="NAME", help="An extra of the package, as radio; repeatable."
)
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, dir_okay=False),
    help="splitfl's wheel (default: built from this clone).",
)
@click.option("--download", is_flag=True, help="Also download the pinned packages into OUT/wheelhouse.")
@click.option(
    "--torch-index", default="", metavar="URL", help="With --download: an index with CPU builds of torch."
)
@RULE
@reports_errors
def image(
    target: str,
    out: Path,
    name: str,
    extras: tuple[str, ...],
    wheel: Path | None,
    download: bool,
    torch_index: str,
    rules: tuple[str, ...],
) -> None:
    """Write a folder to build a testbed's image from: recipe, wheel, pinned packages, scripts.

    OUT/install.sh installs all of it below /opt/splitfl in the system where it runs; OUT/lxc.sh and
    OUT/Dockerfile call it. Without --download the packages are fetched while the image is built.
    """
    from splitfl.core.errors import ConfigError
    from testbed.colosseum.image import ImageSettings, download_wheelhouse, write_image
    from testbed.colosseum.rules import parse_rules
    from testbed.remote.wheel import wheel_of_this_code

    settings = ImageSettings(target=target, name=name, extras=extras, rules=parse_rules(rules))
    if torch_index and not download:
        raise ConfigError("--torch-index needs --download; install.sh reads TORCH_INDEX from its environment")
    with TemporaryDirectory(prefix="splitfl-wheel-") as kept:
        written = write_image(out, settings, wheel or wheel_of_this_code(Path(kept) / "wheel"))
    click.echo("\n".join(map(str, written)))
    if download:
        click.echo(download_wheelhouse(out, settings, torch_index))


@click.command()
@click.argument("name", metavar="NAME")
@reports_errors
def template(name: str) -> None:
    """Print a text for another testbed.

    powder is a geni-lib profile, orbit has commands for its console, aerpaw a script that runs a node's part.
    """
    from importlib.resources import files

    from splitfl.config import one_of

    one_of("template", name, ("powder", "orbit", "aerpaw"))
    click.echo((files("testbed.templates") / f"{name}.txt").read_text(encoding="utf-8"), nl=False)
