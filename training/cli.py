"""The ``freshet`` command: one function per subcommand, each a thin call into the package."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from feature_repo.errors import FreshetError
from feature_repo.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr and exit code 1."""
    try:
        app()
    except FreshetError as error:
        typer.echo(f"freshet: {error}", err=True)
        sys.exit(1)


@app.command("import")
def import_(
    events: Annotated[Path, typer.Option(help="CSV or Parquet file of events.")],
    items: Annotated[Path | None, typer.Option(help="CSV or Parquet file of the catalog.")] = None,
    users: Annotated[Path | None, typer.Option(help="CSV or Parquet file of users.")] = None,
    field_map: Annotated[
        Path | None, typer.Option("--map", help="YAML map from the files' columns to Freshet's.")
    ] = None,
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move the log so that it ends now; order and gaps stay.")
    ] = False,
) -> None:
    """Bring a shop's log, catalog and users into the archive."""
    from training.import_log import import_log

    report = import_log(
        Settings(), events, items=items, users=users, field_map=field_map, shift_to_now=shift_to_now
    )
    typer.echo(report.to_text())


@app.command()
def simulate(
    *,
    users: Annotated[int, typer.Option(help="People who shop, seven in ten with an account.")] = 5_000,
    items: Annotated[int, typer.Option(help="Products in the catalog.")] = 2_000,
    events: Annotated[int, typer.Option(help="Events to aim at.")] = 200_000,
    days: Annotated[int, typer.Option(help="Length of the log.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed writes the same files.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to  [default: FRESHET_HOME/simulated]")
    ] = None,
) -> None:
    """Make a shop whose truth is known: a log, a catalog, users and how likely each choice was."""
    from training.simulate import ShopSize, simulate

    size = ShopSize(users=users, items=items, events=events, days=days)
    typer.echo(simulate(out or Settings().home / "simulated", size, seed=seed).to_text())
