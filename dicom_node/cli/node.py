"""`up`, `check`, `version`: the node itself."""

from __future__ import annotations

import json
from typing import Final

import typer

from configs.errors import ConfigError
from configs.routes import Route
from configs.settings import Settings
from dicom_node.cli import settings_of
from dicom_node.cli.output import AS_JSON
from dicom_node.main import up as run_node
from dicom_node.roles import ROLES
from dicom_node.version import VERSION

#: Left out of what is shown: a database URL may hold a password.
_SECRET: Final = {"auth": {"admin_key"}, "database": {"url"}}


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def up(
        context: typer.Context,
        roles: str = typer.Option(",".join(ROLES), help="Which roles to run, joined by commas."),
    ) -> None:
        """Start the node and stay up until Ctrl-C."""
        chosen = tuple(role.strip() for role in roles.split(","))
        for role in chosen:
            if role not in ROLES:
                raise ConfigError(f"--roles: there is no role {role!r}; there are {', '.join(ROLES)}")
        run_node(settings_of(context, to_start=True), roles=chosen)

    @app.command()
    def check(context: typer.Context, as_json: bool = AS_JSON) -> None:
        """Check the configuration and say what it amounts to."""
        loaded = settings_of(context, to_start=True)
        settings = loaded.settings
        if as_json:
            typer.echo(json.dumps(settings.model_dump(mode="json", by_alias=True, exclude=_SECRET)))
            return
        typer.echo(f"{loaded.config_dir}: sound.")
        typer.echo(f"  DICOM {settings.dimse.ae_title} at {settings.dimse.host}:{settings.dimse.port}")
        typer.echo(f"  HTTP {settings.http.host}:{settings.http.port}, data in {settings.data_dir}")
        typer.echo(f"  Peers: {', '.join(settings.peers) or 'none'}")
        for route in settings.routes:
            typer.echo(f"  Route {route.name}: {_leads_to(route, settings)}")

    @app.command()
    def version() -> None:
        """Print the version."""
        typer.echo(VERSION)


def _leads_to(route: Route, settings: Settings) -> str:
    onward = f"originals sent on to {', '.join(route.originals_to)}" if route.originals_to else ""
    if route.engine is None:
        return onward
    engine = settings.engines.get(route.engine)
    state = "" if engine is not None and engine.enabled else " (not enabled: its studies will wait)"
    said = f"{route.engine}{state}, delivered to {', '.join(route.deliver_to)}"
    return f"{said}, {onward}" if onward else said
