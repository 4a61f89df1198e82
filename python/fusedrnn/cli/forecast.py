"""fusedrnn forecast: forecasts a column of a CSV file, and measures how good that is."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .console import labelled, note, say, say_json, shown, visible
from .options import add_json, add_quiet, count, natural, separator, share, thread_count
from .outputs import Output
from .progress import Progress
from .stops import stops_raise

if TYPE_CHECKING:
    from ..forecasting import Forecast
    from .table import Column

__all__ = ["add_parser"]

STDIN = "-"
STANDARD_INPUT = "standard input"
PLOTS = (".pdf", ".png", ".svg")
INDENT = 9
DEFAULTS: dict[str, Any] = {"cell": "gru", "members": 3, "origins": 10, "coverage": 0.8, "seed": 0}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "forecast",
        help="forecast a column of a CSV file, beside simple methods",
        description="Train small recurrent networks on a series of numbers, measure them in a "
        "back-test beside naive, seasonal naive and a linear autoregression, and forecast the "
        "next values with intervals.",
        epilog="Exit codes: 0; 1 where output was lost; 2 for wrong input; 128 + N where signal N "
        "ended it (130 for Ctrl-C). Only a whole forecast is written.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="CSV with a header, UTF-8, the latest row last; - for "
        "standard input"
    )  # fmt: skip
    parser.add_argument(
        "--horizon", type=natural, metavar="N", required=True, help="how many values to forecast"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="which column (default: the only one with numbers)"
    )
    parser.add_argument(
        "--separator", type=separator, metavar="C", help="between fields, such as ; or tab "
        "(default: found)"
    )  # fmt: skip
    parser.add_argument(
        "--season", type=natural, metavar="N", help="rows of a season, 1 for none (default: found "
        "by autocorrelation)"
    )  # fmt: skip
    parser.add_argument(
        "--window", type=natural, metavar="N", help="rows that the network reads (default: two "
        "seasons, at most 48, or 12)"
    )  # fmt: skip
    parser.add_argument(
        "--cell",
        choices=("gru", "lstm", "rnn"),
        default=DEFAULTS["cell"],
        help=f"kind of layer (default: {DEFAULTS['cell']})",
    )
    for name, kind, metavar, text in (
        ("--members", natural, "N", "networks that are averaged, for each scaling"),
        ("--origins", natural, "N", "forecasts of the back-test"),
        ("--coverage", share, "P", "share of the values that the intervals shall hold"),
        ("--seed", count, "N", "of the initial weights"),
    ):
        default = DEFAULTS[name[2:]]
        parser.add_argument(
            name,
            type=kind,
            default=default,
            metavar=metavar,
            help=f"{text} (default: {default})",
        )
    parser.add_argument(
        "--threads",
        type=thread_count,
        default=1,
        metavar="N",
        help="threads of the kernels; no result depends on it, and networks this small gain little "
        "(default: 1)",
    )
    parser.add_argument("--output", metavar="FILE", help="write the forecast as CSV")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw it, as .png, .svg or .pdf (needs matplotlib)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the files of --output and --plot"
    )
    add_quiet(parser)
    add_json(parser, "the result")
    parser.set_defaults(run=run, prog=parser.prog)


def run(arguments: argparse.Namespace) -> int:
    """Read, forecast, report, write."""
    from .. import runtime

    runtime.set_num_threads(arguments.threads)
    with stops_raise():
        table, plot = _outputs(arguments)
        column = _column(arguments)
        found = _forecast(arguments, column)
        if table is not None:
            table.write(lambda stream: _write_csv(stream, found))
        if plot is not None:
            plot.write(lambda stream: _draw(stream, plot.path, column, found))
    if arguments.json:
        say_json(_result(arguments, column, found))
    elif not arguments.quiet:
        say(_report(arguments, column, found))
    return 0


# --- before the work ------------------------------------------------------------------------------


def _outputs(arguments: argparse.Namespace) -> tuple[Output | None, Output | None]:
    """Return the files of --output and --plot, or say why they cannot be written."""
    if arguments.plot is not None and Path(arguments.plot).suffix.lower() not in PLOTS:
        raise ValueError(
            f"--plot: expected a name that ends in {', '.join(PLOTS[:-1])} or {PLOTS[-1]}, got "
            f"{shown(arguments.plot)!r}"
        )
    named = {"--output": arguments.output, "--plot": arguments.plot, "FILE": arguments.file}
    real = {n: os.path.realpath(path) for n, path in named.items() if path not in (None, STDIN)}
    if len(set(real.values())) < len(real):
        raise ValueError(f"{', '.join(real)}: expected different files")
    if arguments.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'fusedrnn[plot]'")
    table, plot = (
        None if path is None else Output(path, option, replace=arguments.force)
        for option, path in list(named.items())[:2]
    )
    return table, plot


def _column(arguments: argparse.Namespace) -> Column:
    """Read the series."""
    from .table import read_column

    if arguments.file == STDIN:
        if sys.stdin.isatty():
            note("Reading the table from the terminal; Ctrl-D ends it")
        data = sys.stdin.buffer.read()
    else:
        with open(arguments.file, "rb") as file:
            data = file.read()
    return read_column(data, _name(arguments), arguments.column, arguments.separator)


def _name(arguments: argparse.Namespace) -> str:
    return STANDARD_INPUT if arguments.file == STDIN else arguments.file


# --- the work -------------------------------------------------------------------------------------


def _forecast(arguments: argparse.Namespace, column: Column) -> Forecast:
    from ..forecasting import forecast

    progress = Progress(sys.stderr, arguments.quiet)
    what = f"{arguments.cell.upper()} networks for the back-test and the forecast"
    try:
        return forecast(
            column.values,
            arguments.horizon,
            season=arguments.season,
            window=arguments.window,
            **{name: getattr(arguments, name) for name in DEFAULTS},
            progress=lambda done: progress.update(done, lambda: (what,)),
        )
    except ValueError as error:
        name, _, text = str(error).partition(": ")
        if name != "series":
            raise ValueError(f"--{error}") from error
        where = f"{shown(_name(arguments))}: column {column.name!r}"
        raise ValueError(f"{where}: {text}") from error
    finally:
        progress.close()


def _steps(found: Forecast) -> list[tuple[int, float, float, float]]:
    """Return step, forecast, and the ends of the interval."""
    numbers = zip(found.mean.tolist(), found.lower.tolist(), found.upper.tolist(), strict=True)
    return [(step, *one) for step, one in enumerate(numbers, 1)]


def _write_csv(stream: BinaryIO, found: Forecast) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "forecast", "lower", "upper"))
    writer.writerows(_steps(found))
    stream.write(text.getvalue().encode())


def _draw(stream: BinaryIO, path: str, column: Column, found: Forecast) -> None:
    from ..forecasting import plot

    figure = plot.forecast(column.values, found, name=column.name)
    figure.canvas.print_figure(stream, format=Path(path).suffix[1:].lower(), dpi=150)


# --- the report -----------------------------------------------------------------------------------


def _report(arguments: argparse.Namespace, column: Column, found: Forecast) -> str:
    """Return what is printed; all of it fits 80 columns."""
    values, origins = column.values, found.origins
    season = "none" if found.season == 1 else f"{found.season} rows"
    season += " (found)" if arguments.season is None else ""
    scalings = " and ".join(map(str, found.scalings))
    networks = arguments.members * len(found.scalings)
    ahead = f"{arguments.horizon} step{'s' * (arguments.horizon != 1)}"
    lines = [
        labelled(
            "Series:",
            f"{visible(column.name)!r} of {shown(_name(arguments))}, {len(values):,} values from "
            f"{values.min():g} to {values.max():g}; season: {season}",
            INDENT,
        ),
        labelled(
            "Network:",
            f"{arguments.cell.upper()}; the mean of {networks} that read {found.window} "
            f"row{'s' * (found.window != 1)} of {scalings}",
            INDENT,
        ),
        "",
        f"Back-test: {ahead} ahead from {len(origins)} origins, after {origins[0]:,} to "
        f"{origins[-1]:,} rows",
        f"  {'method':<16}{'MAE':>12}{'RMSE':>12}{'MASE':>9}",
        *(
            f"  {name:<16}{errors.mae:>12.5g}{errors.rmse:>12.5g}{errors.mase:>9.3f}"
            for name, errors in found.errors.items()
        ),
        "",
        labelled("", _verdict(found), 0),
        "",
        labelled(
            "",
            f"Forecast of the network, with intervals that hold about {found.coverage:.0%} of the "
            "values (split-conformal, from the errors of the back-test):",
            0,
        ),
        f"  {'step':>6}{'forecast':>14}{'lower':>14}{'upper':>14}",
        *(f"  {step:>6}{a:>14.6g}{b:>14.6g}{c:>14.6g}" for step, a, b, c in _steps(found)),
    ]
    for path in (arguments.output, arguments.plot):
        if path is not None:
            lines.append(f"Wrote {shown(path)}")
    return "\n".join(lines)


def _verdict(found: Forecast) -> str:
    """Say whether the network is worth its time."""
    ours = found.errors["network"]
    if not found.better:
        rest = {name: errors.mae for name, errors in found.errors.items() if name != "network"}
        near = min(rest, key=lambda name: rest[name])
        return (
            f"The network has the smallest mean absolute error, {ours.mae:.5g}; the next best is "
            f"{near}, with {rest[near]:.5g}."
        )
    best = found.better[0]
    return (
        f"The network loses to {' and '.join(found.better)}: its mean absolute error is "
        f"{ours.mae:.5g}, that of {best} {found.errors[best].mae:.5g}. For this series {best} is "
        "the better choice."
    )


def _result(arguments: argparse.Namespace, column: Column, found: Forecast) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "file": _name(arguments),
        "column": column.name,
        "values": len(column.values),
        "horizon": arguments.horizon,
        "season": found.season,
        "window": found.window,
        "scalings": [{"log": one.log, "lag": one.lag} for one in found.scalings],
        "cell": arguments.cell,
        "members": arguments.members,
        "seed": arguments.seed,
        "backtest": {
            "origins": found.origins.tolist(),
            "errors": {name: errors._asdict() for name, errors in found.errors.items()},
            "better_than_network": found.better,
        },
        "intervals": {"method": "split-conformal", "coverage": found.coverage},
        "forecast": [
            {"step": step, "forecast": a, "lower": b, "upper": c} for step, a, b, c in _steps(found)
        ],
        "output": arguments.output,
        "plot": arguments.plot,
    }
