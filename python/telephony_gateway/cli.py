"""The command `telephony-gateway`. What a command needs is imported by the command: `--help` stays quick."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from telephony_gateway import __version__

START_FAILED = 2
"""Exit code when the configuration or the start is at fault."""
FAULTY = 1
"""Exit code when a file was checked or applied, and it is at fault."""

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
def check(
    gateway_toml: Annotated[Path, typer.Argument(help="Trunks, routes and users.")],
) -> None:
    """List everything that is wrong in a gateway.toml, without starting or asking anything."""
    from telephony_gateway.plan_file import read_file, summary

    plan, faults, notes = read_file(gateway_toml)
    for line in (*faults, *notes):
        typer.echo(line, err=line in faults)
    if faults:
        raise typer.Exit(FAULTY)
    typer.echo(f"{gateway_toml}: good: {summary(plan)}")


@cli.command()
def apply(
    gateway_toml: Annotated[Path, typer.Argument(help="Trunks and routes to run with.")],
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:3000",
    api_key_env: Annotated[
        str, typer.Option(help="The environment variable that holds the API key (the first of several).")
    ] = "API_KEYS",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Make the trunks and routes of a running gateway those of a file: all of them, or none."""
    from telephony_gateway.plan_file import ApplyFailed, read_file, send_file

    _, faults, _ = read_file(gateway_toml)
    if faults:
        typer.echo("\n".join(faults), err=True)
        raise typer.Exit(FAULTY)
    try:
        lines = send_file(gateway_toml, url, api_key_env, dry_run=dry_run)
    except ApplyFailed as error:
        typer.echo(f"telephony-gateway: {error}", err=True)
        raise typer.Exit(FAULTY) from None
    typer.echo("\n".join(lines))


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
