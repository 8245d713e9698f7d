"""The run's settings: the environment's, with the key from a Secret block where one is named.

`prefect deploy` looks up every ``{{ $NAME }}`` and ``{{ prefect.blocks... }}`` of ``prefect.yaml`` and stores
what it finds, in clear, with the deployment. So a deployment names the block, and each process reads it.
"""

from prefect import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from tasks.core.errors import SettingsError
from tasks.core.settings import Settings


def run_settings(**known: str) -> Settings:
    """The settings of a run, with the key.

    Args:
        **known: Settings that take precedence over the environment, such as those of a ``RunSpec``.

    Raises:
        SettingsError: A variable is missing or wrong, or the block does not exist.
    """
    settings = Settings.from_environment(**known)
    if not settings.azure_openai_api_key_block:
        return settings
    key = _key_in(settings.azure_openai_api_key_block)
    return Settings.from_environment(**known, azure_openai_api_key=key)


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
