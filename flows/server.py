"""Prefect's server, before a run needs it: the one that is named, or else the run's own."""

import os

from prefect import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

from tasks.core.errors import SettingsError


def find_server(own_url: str | None) -> None:
    """See that a server answers; when none is named, let this process use the run's own.

    Args:
        own_url: Where the run's own server listens, or will.

    Raises:
        SettingsError: None answers.
    """
    named = PREFECT_API_URL.value()
    if not named:
        _use(own_url)
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if not error:
        return
    if not named:
        message = "Prefect's server did not start: what it said is above. Without one: --no-prefect."
        raise SettingsError(message)
    # Without what may be before the host, since that is a password.
    told = f"{named.rpartition('@')[2]} ({type(error).__name__})"
    message = (
        f"No Prefect server answers at PREFECT_API_URL, {told}: start "
        "it, correct the variable or Prefect's profile, or unset it to do without a server."
    )
    raise SettingsError(message)


def _use(own_url: str | None) -> None:
    if not own_url or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        message = (
            "No Prefect server is named, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids one of the run's "
            "own: set PREFECT_API_URL, allow it, or use --no-prefect."
        )
        raise SettingsError(message)
    # For all threads: some of Prefect's do not see what is set for a block. There are no pages to link to.
    os.environ |= {"PREFECT_API_URL": own_url, "PREFECT_UI_URL": ""}
    refresh_global_settings_context()
