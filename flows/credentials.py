"""The run's settings: the environment's, with the key from a Secret block where one is named.

`prefect deploy` looks up every ``{{ $NAME }}`` and ``{{ prefect.blocks... }}`` of ``prefect.yaml`` and stores
what it finds, in clear, with the deployment. So a deployment carries the block's name, and the run opens it.
"""

from prefect import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from tasks.core.errors import SettingsError
from tasks.core.settings import Settings


def run_settings() -> Settings:
    """The settings of a run.

    Raises:
        SettingsError: A variable is missing or wrong, or the block is not there.
    """
    settings = Settings.from_environment()
    if not settings.azure_openai_api_key_block:
        return settings
    return Settings.from_environment(azure_openai_api_key=_key_in(settings.azure_openai_api_key_block))


def _key_in(name: str) -> SecretStr:
    # The sync client, because a block's own `load` is a coroutine when an async flow calls this one.
    with get_client(sync_client=True) as client:
        try:
            block = client.read_block_document_by_name(name, "secret")
        except ObjectNotFound:
            message = (
                f"AZURE_OPENAI_API_KEY_BLOCK names the Secret block '{name}', which this Prefect server does "
                "not have: create it on the Blocks page, or unset the variable."
            )
            raise SettingsError(message) from None
    return SecretStr(str(block.data["value"]))
