"""Finds the Prefect server of a run: the configured one, or else one that this process started."""

import os

import httpx
from prefect import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

from tasks.core.errors import SettingsError

_START_S = 120.0
"""How long the run's own server may take to start: 3 to 8 s on an idle machine, longer when it has to create
its database on a busy one, where a shorter timeout would fail runs. A server that cannot start ends by
itself, which is reported at once, so the long timeout costs nothing then."""
_PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")


def find_server(own_url: str | None) -> None:
    """Check that a server answers; if none is configured, use the run's own.

    Args:
        own_url: The address of the run's own server, which may still be starting.

    Raises:
        SettingsError: No server answers.
    """
    if named := PREFECT_API_URL.value():
        _check_named(named)
    elif own_url and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        _check_own(own_url)
        _use(own_url)
    else:
        message = (
            "No Prefect server is configured, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids to start one: "
            "set PREFECT_API_URL, allow it, or use --no-prefect."
        )
        raise SettingsError(message)


def _check_named(url: str) -> None:
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error:
        # Without user and password, which may precede the host.
        address = f"{url.rpartition('@')[2]} ({type(error).__name__})"
        message = (
            f"No Prefect server answers at PREFECT_API_URL, {address}: start "
            "it, correct the variable or Prefect's profile, or unset it to run with a temporary server."
        )
        raise SettingsError(message)


def _check_own(url: str) -> None:
    """Wait for the run's own server, which may have to create its database first."""
    try:
        httpx.get(f"{url}/health", timeout=_START_S, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        message = (
            f"The run's own Prefect server did not start ({type(error).__name__}): its output is above. "
            "Set PREFECT_API_URL to another server, or use --no-prefect."
        )
        raise SettingsError(message) from None


def _use(own_url: str) -> None:
    # In the environment, since some of Prefect's threads ignore settings of a context. It serves no pages.
    os.environ |= {"PREFECT_API_URL": own_url, "PREFECT_UI_URL": ""}
    for name in _PROXY_EXCEPTIONS:
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    refresh_global_settings_context()
