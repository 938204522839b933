"""The command line. Commands parse, call and print; what is heavy is imported inside them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gaptune import __version__
from gaptune.errors import UserError

if TYPE_CHECKING:
    from gaptune.config import SweepConfig
    from gaptune.space import Space

_results = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GAPTUNE_RESULTS",
    default=Path("results"),
    show_default=True,
    help="Folder of all sweeps, with MLflow's store beside them.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gaptune")
def cli() -> None:
    r"""Search the trade-off between modality gap, retrieval and uniformity of CLIP-style models.

    \b
    gaptune sweep search_spaces/temp.yaml     run a search on the embedded data
    gaptune ui                                look at its trials in MLflow
    """


@cli.command()
@click.argument("space_file", metavar="SPACE", type=click.Path(path_type=Path))
@click.option(
    "--on",
    "sweep_file",
    metavar="SWEEP",
    type=click.Path(path_type=Path),
    help="How trials are run (sweeps/*.yaml); default: the embedded data.",
)
@click.option("--name", help="Name of the sweep; one that exists is gone on with. Default: space and date.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all (overrides the YAML).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side (overrides the YAML).")
@_results
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow server; default: a SQLite file in the results folder.",
)
@click.option("--address", help="Address of a running Ray cluster; default: this machine.")
@click.option("--warm-start", metavar="NAME", help="Let the sampler learn from another sweep's completed trials.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, start nothing.")
def sweep(
    space_file: Path,
    sweep_file: Path | None,
    name: str | None,
    trials: int | None,
    concurrency: int | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    warm_start: str | None,
    dry_run: bool,
) -> None:
    """Search SPACE for the best trade-offs; the same command again goes on where it stopped."""
    from rich.console import Console

    from gaptune.display import Display
    from gaptune.engine.sweep import prepare, run
    from gaptune.results import summarize
    from gaptune.results.table import front_table

    space, config = _load(space_file, sweep_file, trials, concurrency)
    name = name or f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    results = results.resolve()
    if warm_start is not None:
        _sweep_folder(results, warm_start)
    plan = prepare(space, config, name=name, results=results, now=time.time(), warm_start=warm_start)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if dry_run:
        click.echo(_plan_text(plan, console))
        return
    console.print(
        f"sweep {name}: {plan.budget} trials of {space.name} in {plan.folder}",
        highlight=False,
        soft_wrap=True,
    )
    with Display(console) as display:
        record = run(
            plan,
            display=display,
            results=results,
            tracking_uri=tracking_uri,
            address=address,
            clock=time.time,
        )
    console.print(front_table(record, summarize(record)))
    here = "" if results == Path("results").resolve() else f" --results {results}"
    if record.paused is not None:
        console.print(
            f"{record.paused}; what is done is kept. To go on: {_again(name)}",
            highlight=False,
            soft_wrap=True,
        )
        raise SystemExit(130)
    console.print(
        f"results: {plan.folder}\npicture: {plan.folder / 'front.png'}\nnext:    gaptune ui{here}",
        highlight=False,
        soft_wrap=True,
    )


@cli.command()
@click.argument("name")
@_results
def status(name: str, results: Path) -> None:
    """Show where the sweep NAME stands, running or not."""
    from rich.console import Console

    from gaptune.ledger import in_use, load
    from gaptune.results import summarize
    from gaptune.results.table import front_table, running_table

    folder = _sweep_folder(results, name)
    record = load(folder)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if in_use(folder):
        stands = "is running"
    elif record.done:
        stands = "is done"
    else:
        stands = f"stopped ({record.paused or 'its driver was killed'}); the command that started it goes on with it"
    console.print(f"{name} {stands}: {record.header['command']}", highlight=False, soft_wrap=True)
    console.print(running_table(record))
    console.print(front_table(record, summarize(record)))


@cli.command()
@click.argument("name")
@_results
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow server; default: the SQLite file.")
def sync(name: str, results: Path, tracking_uri: str | None) -> None:
    """Bring MLflow up to date with the ledger of the sweep NAME; also into an empty store."""
    from gaptune.engine.sweep import synchronize

    runs = synchronize(_sweep_folder(results, name), results.resolve(), tracking_uri)
    click.echo(f"{name}: {runs} trials are in MLflow as in the ledger")


@cli.command()
@click.option(
    "--method",
    help="A method of the paper: Baseline, FLT, TS S0 … TS S3, TR softplus, TR exp/s, SLRT, HS, SS.",
)
@click.option(
    "--on",
    "sweep_file",
    metavar="SWEEP",
    type=click.Path(path_type=Path),
    help="Model, data and training (sweeps/*.yaml); default: the embedded data.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KNOB=VALUE",
    multiple=True,
    help="Set a knob by its dotted path; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoints; the same command goes on from them.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def train(
    method: str | None, sweep_file: Path | None, assignments: tuple[str, ...], out: Path | None, threads: int
) -> None:
    """Train and evaluate one trial."""
    import torch

    from gaptune.config import load_sweep_config
    from gaptune.data import open_store
    from gaptune.methods import expand_method
    from gaptune.trial import NonFinite
    from gaptune.trial import train as train_trial

    knobs = dict(_assignment(text) for text in assignments)
    if method is not None:
        knobs["method"] = method
    config = load_sweep_config(sweep_file or _shipped("sweeps/embedded.yaml")).trial(expand_method(knobs))
    torch.set_num_threads(threads)
    shown = (
        "train/loss",
        "temperature/tau",
        "geometry/gap",
        "uniformity/w2",
        "retrieval/mean_r1",
        "retrieval/mean_r10",
    )
    click.echo("  ".join(["epoch", *(f"{name.split('/')[1]:>9}" for name in shown), "seconds"]))
    try:
        for report in train_trial(config, open_store(config.data.store), checkpoints=out):
            cells = [f"{report.metrics[name]:9.4f}" for name in shown]
            seconds = report.metrics["time/train_s"] + report.metrics["time/eval_s"]
            click.echo("  ".join([f"{report.epoch:5d}", *cells, f"{seconds:7.1f}"]))
        click.echo("")
        _print_pairs([(name, f"{value:.4f}") for name, value in report.metrics.items()])
    except NonFinite as fault:
        click.echo(f"stopped: non-finite: {fault}", err=True)
        raise SystemExit(1) from None


@cli.group()
def data() -> None:
    """Build and look at data stores."""


@data.group()
def build() -> None:
    """Turn images and captions into a store that trials memory-map."""


@build.command()
@click.option(
    "--annotations",
    required=True,
    multiple=True,
    metavar="SPLIT=FILE",
    help="COCO captions JSON of a split, e.g. train=captions_train.json.",
)
@click.option("--images", required=True, multiple=True, metavar="SPLIT=FOLDER", help="Folder of a split's images.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to make.")
@click.option(
    "--size",
    default=224,
    show_default=True,
    type=click.IntRange(16, 1024),
    help="Side of the stored squares in pixels.",
)
@click.option(
    "--context",
    default=77,
    show_default=True,
    type=click.IntRange(4, 512),
    help="Tokens of a caption, start and end included.",
)
@click.option(
    "--max-broken",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of broken or missing images above which the build fails.",
)
def coco(
    annotations: tuple[str, ...],
    images: tuple[str, ...],
    out: Path,
    size: int,
    context: int,
    max_broken: float,
) -> None:
    """From COCO captions files: --annotations train=a.json val=b.json --images train=DIR val=DIR."""
    from rich.console import Console
    from rich.progress import Progress

    from gaptune.data.coco import build_coco

    console = Console(stderr=True)
    with Progress(console=console) as bar:
        task = bar.add_task("images", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        store = build_coco(
            annotations=_by_split(annotations, "--annotations"),
            images=_by_split(images, "--images"),
            out=out,
            image_size=size,
            context_length=context,
            max_broken=max_broken,
            progress=show,
        )
    _print_pairs(_describe(store))


@data.command()
@click.argument("store", metavar="STORE")
@click.option("--verify", is_flag=True, help="Read everything and compare its hash.")
def info(store: str, verify: bool) -> None:
    """Say what is in a STORE (a folder, or `scenes`)."""
    from gaptune.data import open_store

    opened = open_store(store)
    if verify:
        opened.verify()
    _print_pairs(_describe(opened))


@cli.group()
def space() -> None:
    """Look at search spaces."""


@space.command("show")
@click.argument("space_file", metavar="SPACE", type=click.Path(path_type=Path))
@click.option("--draws", default=5, show_default=True, type=click.IntRange(min=0), help="Random draws to show.")
def space_show(space_file: Path, draws: int) -> None:
    """Show the knobs of SPACE, the points tried first, and some random draws."""
    from rich.console import Console

    from gaptune.engine.preview import describe_space
    from gaptune.space import load_space

    Console().print(describe_space(load_space(_found(space_file, "search_spaces")), draws))


@cli.command()
@_results
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="Store or server to look at; default: the SQLite file in the results folder.",
)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(results: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the results (on this machine only: http://127.0.0.1:PORT)."""
    from gaptune.tracking import default_uri

    if tracking_uri is None and not (results / "mlflow.db").exists():
        raise UserError(f"there is no mlflow.db in {results}; run a sweep first, or give --results")
    uri = tracking_uri or default_uri(results)
    click.echo(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    os.execv(command[0], command)


def main() -> NoReturn:
    """Entry point: bad input is one line and exit code 2."""
    try:
        cli(standalone_mode=False)
    except UserError as fault:
        click.echo(f"gaptune: {fault}", err=True)
        raise SystemExit(2) from None
    except click.ClickException as fault:
        fault.show()
        raise SystemExit(fault.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        raise SystemExit(130) from None
    raise SystemExit(0)


def _load(
    space_file: Path, sweep_file: Path | None, trials: int | None, concurrency: int | None
) -> tuple[Space, SweepConfig]:
    from gaptune.config import load_sweep_config
    from gaptune.space import load_space

    space = load_space(_found(space_file, "search_spaces"))
    config = load_sweep_config(_found(sweep_file, "sweeps") if sweep_file else _shipped("sweeps/embedded.yaml"))
    if trials is not None:
        config = config.model_copy(update={"search": config.search.model_copy(update={"trials": trials})})
    if concurrency is not None:
        resources = config.resources.model_copy(update={"concurrency": concurrency})
        config = config.model_copy(update={"resources": resources})
    return space, config


def _sweep_folder(results: Path, name: str) -> Path:
    """The folder of a sweep that exists."""
    from gaptune.errors import did_you_mean
    from gaptune.ledger import FILE_NAME

    known = [path.parent.name for path in results.glob(f"*/{FILE_NAME}")]
    if name not in known:
        raise UserError(f"no sweep {name!r} in {results}{did_you_mean(name, known)}")
    return results / name


def _shipped(relative: str) -> Path:
    """A YAML file that comes with gaptune, from a checkout or from an installed wheel."""
    here = Path(__file__).resolve().parent
    for root in (here.parent, here / "_shipped"):
        if (root / relative).exists():
            return root / relative
    raise UserError(f"{relative} did not come with this installation of gaptune")


def _found(path: Path, folder: str) -> Path:
    """A file as given; or, where there is none, the one of that name that comes with gaptune."""
    if path.exists() or path.parent.name not in ("", folder):
        return path
    from gaptune.errors import did_you_mean

    here = Path(__file__).resolve().parent
    shipped = {file.name: file for root in (here / "_shipped", here.parent) for file in (root / folder).glob("*.yaml")}
    if path.name not in shipped:
        near = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"no such file: {path}{did_you_mean(path.name, [*shipped, *near])}")
    return shipped[path.name]


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    knob, equals, value = text.partition("=")
    if not equals or not knob:
        raise UserError(f"--set {text!r}: expected KNOB=VALUE, such as temperature.tau_end=0.05")
    parsed = yaml.safe_load(value) if value else None
    return knob.strip(), parsed


def _by_split(texts: tuple[str, ...], option: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        split, equals, path = text.partition("=")
        if not equals or not split or not path:
            raise UserError(f"{option} {text!r}: expected SPLIT=PATH, such as train=captions_train.json")
        found[split] = Path(path)
    return found


def _again(name: str) -> str:
    import shlex

    words = ["gaptune", *sys.argv[1:]]
    return shlex.join(words if "--name" in words else [*words, "--name", name])


def _describe(store: Any) -> list[tuple[str, str]]:
    from gaptune.data.info import describe

    return describe(store)


def _print_pairs(pairs: list[tuple[str, str]]) -> None:
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        click.echo(f"{label:<{width}}  {value}")


def _plan_text(plan: Any, console: Any) -> str:
    from gaptune.engine.preview import describe_plan

    with console.capture() as captured:
        console.print(describe_plan(plan))
    return str(captured.get()).rstrip()


if __name__ == "__main__":
    main()
