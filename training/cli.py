"""The ``freshet`` command: one function per subcommand, each a thin call into the package."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from feature_repo.errors import FreshetError, InputError
from feature_repo.settings import Settings
from serving.access.api_keys import KeyScope
from training.config import EncoderKind
from training.evaluation.protocol import Protocol

THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Small products are slower on many threads than on one, and threads that spin while waiting starve the others."""

LIGHTGBM_NEEDS = "libgomp.so.1"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
keys = typer.Typer(no_args_is_help=True)
app.add_typer(keys, name="keys", help="Keys of the API: who may ask it for what.")


def main() -> None:
    """Run the command line; an expected error becomes one line on stderr and exit code 1."""
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it would tell which instructions this machine has
    try:
        app()
    except FreshetError as error:
        _fail(str(error))
    except OSError as error:
        if LIGHTGBM_NEEDS in str(error):
            _fail(f"LightGBM needs the system library {LIGHTGBM_NEEDS}: apt-get install libgomp1")
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"freshet: {message}", err=True)
    sys.exit(1)


def read_settings() -> Settings:
    """The settings of the environment; InputError that names the variable that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        variable = f"FRESHET_{wrong['loc'][0]}".upper()
        raise InputError(f"{variable} is {wrong['input']!r}: {wrong['msg']} (docs/settings.md)") from None


@app.command()
def doctor() -> None:
    """Look for what this machine and FRESHET_HOME lack, each finding with its cure; exit 1 with a problem."""
    from rich.console import Console

    from training.doctor.examination import examine, show
    from training.doctor.finding import Level

    findings = examine(read_settings())
    show(findings, Console())
    if any(finding.level == Level.PROBLEM for finding in findings.values()):
        raise typer.Exit(1)


@app.command("import")
def import_(
    events: Annotated[Path | None, typer.Option(help="CSV or Parquet file of events.")] = None,
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
    from training.imports.import_log import import_log

    report = import_log(
        read_settings(), events, items=items, users=users, field_map=field_map, shift_to_now=shift_to_now
    )
    typer.echo(report.to_text())


@app.command("embed-images")
def embed_images(
    images: Annotated[Path, typer.Option(help="Folder of <item_id>.jpg, .jpeg, .png or .webp.")],
    model: Annotated[
        Path | None, typer.Option(help="Image model in ONNX format  [default: colours and edges]")
    ] = None,
) -> None:
    """Give each item of the catalog a vector of its image."""
    from training.images import DESCRIPTOR, embed_images, onnx_embedder

    settings = read_settings()
    embedder = onnx_embedder(model) if model else DESCRIPTOR
    typer.echo(embed_images(settings.catalog_dir, images, embedder).to_text())


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
    from training.simulation.simulate import ShopSize, simulate

    size = ShopSize(users=users, items=items, events=events, days=days)
    typer.echo(simulate(out or read_settings().home / "simulated", size, seed=seed).to_text())


@app.command()
def train(
    *,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Most epochs of the embeddings  [default: FRESHET_TRAINING_EPOCHS]"),
    ] = None,
    encoder: Annotated[EncoderKind, typer.Option(help="Network of the session encoder.")] = "attention",
    search: Annotated[
        int, typer.Option(min=0, metavar="N", help="Try N settings of the ranker, take the best.")
    ] = 0,
    force: Annotated[str | None, typer.Option(help="Publish even a worse model, for this reason.")] = None,
) -> None:
    """Train on the archive, evaluate, and publish the model if it passes the gate."""
    from training.config import configured
    from training.evaluation.metrics import to_text
    from training.pipeline import train

    settings = read_settings()
    outcome = train(settings, configured(settings, epochs, encoder, search), force)
    typer.echo(to_text(outcome.scores))
    typer.echo(f"{outcome.verdict}\nmodel {outcome.version} is live")


@app.command()
def evaluate(
    *,
    protocol: Annotated[
        Protocol, typer.Option(help="What is asked, and what counts as a hit.")
    ] = Protocol.NEXT_ITEM,
    requests: Annotated[int, typer.Option(min=0, help="Most requests that are asked; 0 asks all.")] = 5_000,
    trials: Annotated[int, typer.Option(min=1, help="Parameters that are tried for each baseline.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to  [default: FRESHET_HOME/evaluation/PROTOCOL]")
    ] = None,
) -> None:
    """Hold the recommender against tuned baselines, on the newest part of the archive; publish nothing."""
    from training.config import configured
    from training.evaluation.evaluate import Examination, evaluate

    settings = read_settings()
    examination = Examination(protocol, requests, trials)
    typer.echo(evaluate(settings, configured(settings), examination, out).summary())


@app.command()
def models() -> None:
    """List the models, the live one marked with a star."""
    from training.publish import list_models, models_text

    typer.echo(models_text(list_models(read_settings().models_dir)))


@app.command()
def publish(
    version: Annotated[str, typer.Argument(help="Version as `freshet models` lists it.")],
    force: Annotated[str | None, typer.Option(help="Publish even a worse model, for this reason.")] = None,
) -> None:
    """Make a trained model live if it passed the gate."""
    from training.publish import publish

    settings = read_settings()
    publish(settings.models_dir, version, keep=settings.bundles_kept, force=force)
    typer.echo(f"model {version} is live")


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Version to go back to  [default: the one before]")
    ] = None,
) -> None:
    """Make an earlier model live again."""
    from training.publish import rollback

    typer.echo(f"model {rollback(read_settings().models_dir, version)} is live")


@app.command()
def refresh() -> None:
    """Assemble the live model anew from what has happened since; what was learned stays as it is."""
    from training.refresh import refresh

    typer.echo(refresh(read_settings()) or "nothing new")


@app.command()
def recommend(
    events: Annotated[Path, typer.Option(help="Windows: event rows with a request_id, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write the slates to.")],
    k: Annotated[int | None, typer.Option(min=1, help="Items per slate  [default: as the API]")] = None,
    repeat_last: Annotated[
        bool, typer.Option("--repeat-last", help="Let a slate hold the item of the newest event.")
    ] = False,
) -> None:
    """Answer a file of windows with the live model, as the API would."""
    from serving.live_version import read_live_bundle
    from serving.query import DEFAULT_SLATE_SIZE
    from serving.recommender import Recommender
    from training.batch_answers import answer, read_requests, require_place, write_answers

    require_place(out)
    settings = read_settings()
    recommender = Recommender(read_live_bundle(settings.models_dir), settings.candidates)
    size = k or DEFAULT_SLATE_SIZE
    requests = read_requests(events, k=size, window_size=settings.window_size, repeat_last=repeat_last)
    write_answers(answer(recommender, requests), out)
    typer.echo(
        f"{len(requests)} slates of up to {size} items from model {recommender.bundle.manifest.version}: {out}"
    )


@app.command()
def ingest() -> None:
    """Move what the event log holds into the archive."""
    from training.ingest import ingest
    from training.served_merge import merge_served

    settings = read_settings()
    typer.echo(f"{ingest(settings).events} events moved to {settings.archive_dir}")
    merge_served(settings)


@app.command()
def erase() -> None:
    """Carry out the erasures that the API acknowledged: archive, features, served log, models."""
    from training.erase import erase

    removed = erase(read_settings())
    typer.echo("".join(f"{count:>9,}  {store}\n" for store, count in removed.items()) or "nothing is pending")


@app.command()
def stream() -> None:
    """Consume the event log until Ctrl-C: archive every event, count what happens to items, refresh the model."""
    from training.stream.stream import stream

    stream(read_settings())


@app.command("dead-letters")
def dead_letters(
    *,
    replay: Annotated[
        bool, typer.Option("--replay", help="Process them again; what fails again stays.")
    ] = False,
) -> None:
    """Show the events that could not be processed, and why."""
    from rich.console import Console

    from training.stream.dead_letters import read, replay_all, show

    settings = read_settings()
    if replay:
        typer.echo(f"{replay_all(settings)} dead letters were processed")
    show(read(settings), Console())


@app.command()
def redis() -> None:
    """Run the Redis of this FRESHET_HOME until Ctrl-C, for other processes to share."""
    from serving.embedded_redis import run_redis

    run_redis(read_settings())


@app.command()
def serve() -> None:
    """Run the API, with a Redis of its own unless FRESHET_REDIS_URL names one."""
    from serving.server import serve

    serve(read_settings())


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, hyphens.")],
    *,
    scope: Annotated[list[KeyScope], typer.Option(help="What it may do; give it again for more.")],
    per_second: Annotated[
        float | None, typer.Option(help="Most requests a second to each server process  [default: no limit]")
    ] = None,
) -> None:
    """Make an API key and print its secret, this once."""
    from serving.access.api_keys import add_key

    typer.echo(add_key(read_settings().api_keys_path, name, scope, per_second))
    typer.echo(
        "keep it, it is shown this once; within seconds servers take it, and no request without a key",
        err=True,
    )


@keys.command("list")
def list_keys() -> None:
    """List the API keys, with their scopes and limits."""
    from serving.access.api_keys import keys_text, read_keys

    typer.echo(keys_text(read_keys(read_settings().api_keys_path) or []) or "there are no API keys")


@keys.command("remove")
def remove_key(name: Annotated[str, typer.Argument(help="Name as `freshet keys list` shows it.")]) -> None:
    """Remove an API key; servers refuse it within seconds."""
    from serving.access.api_keys import remove_key

    path = read_settings().api_keys_path
    left = remove_key(path, name)
    typer.echo(f"API key {name} is removed, {left} left")
    if not left:
        typer.echo(
            f"servers now refuse all requests: make a key, or remove {path} to let everyone in", err=True
        )


@app.command()
def demo(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Do it all in a new folder, verify it, stop; exit 0 or 1.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Real shop, a folder of FRESHET_DATA  [default: the simulated one]")
    ] = None,
) -> None:
    """Run the whole platform on this machine: Redis, Airflow, the API, and a shopper who tries them."""
    from functools import partial

    from training.demo.check import passes
    from training.demo.demo import demonstrate
    from training.demo.shops import find_shop

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell of every request
    files = os.environ.get("FRESHET_DATA")
    find = partial(find_shop, name=data, data=Path(files) if files else None)
    if check:
        raise typer.Exit(0 if passes(read_settings(), find) else 1)
    demonstrate(find(read_settings()))
