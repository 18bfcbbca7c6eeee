"""The command `telephony-gateway`. What a command needs is imported by the command: `--help` stays quick."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from telephony_gateway import __version__

START_FAILED = 2
"""Exit code when the configuration or the start is at fault."""

cli = typer.Typer(
    help="SIP carriers on one side, browsers on the other. Settings come from the environment and .env.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@cli.command()
def serve() -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from telephony_gateway.app import run

    raise typer.Exit(run())


@cli.command()
def check_config(
    gateway_toml: Annotated[
        Path | None, typer.Argument(help="Trunks and routes; as a default, the file GATEWAY_CONFIG names.")
    ] = None,
) -> None:
    """Check the settings and the routing tables without starting anything."""
    from telephony_gateway.calls.routing import Routing
    from telephony_gateway.config import load_settings, load_tables
    from telephony_gateway.errors import ConfigError

    try:
        settings = load_settings()
        path = gateway_toml or settings.gateway_config
        tables = load_tables(path) if path else {}
        routing = Routing.from_tables(tables, development=settings.development)
    except ConfigError as error:
        fail(error.message)
    typer.echo(f"settings: good for {settings.node_env}")
    typer.echo(f"trunks: {', '.join(routing.trunks) or 'none: no call is accepted'}")
    typer.echo(f"routes: {', '.join(routing.route_names) or 'none: every call is refused with 404'}")


@cli.command()
def version() -> None:
    """Say which version this is."""
    typer.echo(__version__)


def fail(message: str) -> NoReturn:
    """One clear line, and the exit code of a start that failed."""
    typer.echo(f"telephony-gateway: {message}", err=True)
    raise typer.Exit(START_FAILED)


def main() -> None:
    """The entry point."""
    cli()
