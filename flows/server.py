"""Prefect's server, before a run needs it: is the one there that was asked for, or what starts another."""

from importlib import import_module

from prefect import get_client
from prefect.settings import PREFECT_API_URL

from tasks.core.errors import SettingsError


def is_served() -> bool:
    """Whether a server is there for the run; if none was asked for, the run starts its own.

    Raises:
        SettingsError: None answers at the address that is set.
    """
    url = PREFECT_API_URL.value()
    if not url:
        # What starts a server: loaded here, so that nothing else is loaded beside it and holds it up.
        import_module("prefect.server.api.server")
        return False
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error:
        # Without what may be before the host, since that is a password.
        told = f"{url.rpartition('@')[2]} ({type(error).__name__})"
        message = (
            f"No Prefect server answers at PREFECT_API_URL, {told}: start "
            "it, correct the variable or Prefect's profile, or unset it to do without a server."
        )
        raise SettingsError(message)
    return True
