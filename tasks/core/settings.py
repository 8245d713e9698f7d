"""Settings from environment variables: how to reach the deployment.

Other modules read only the standard variables of other software: ``AWS_*`` for object storage, ``TMPDIR``,
``TIKTOKEN_CACHE_DIR``, and Prefect's. A missing or wrong variable is reported in one sentence with its name,
before the first request.
"""

import ipaddress
import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.endpoint import Endpoint
from tasks.core.errors import SettingsError

_DEPLOYMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_A_URL = "must be a URL such as https://NAME.openai.azure.com"
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v1")


class Settings(BaseSettings):
    """How to reach the deployment.

    Attributes:
        azure_openai_endpoint: ``https://NAME.openai.azure.com``; plain http is accepted for loopback only.
        azure_openai_deployment: The name given to the model when it was deployed.
        azure_openai_api_key: The key; without one, Entra ID's default credential is used.
        azure_openai_api_key_block: The name of a Prefect Secret block with the key; opened by ``flows``.
        openai_api_version: Azure's API version; by default the latest generally available one.
        azure_openai_model: The model's name, for LlamaIndex and the price list; by default the deployment's
            name.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    azure_openai_endpoint: str
    azure_openai_deployment: str
    azure_openai_api_key: SecretStr | None = None
    azure_openai_api_key_block: str = ""
    # The latest generally available version with chat completions, by Azure's page on the API lifecycle.
    openai_api_version: Annotated[str, Field(min_length=1)] = "2024-10-21"
    azure_openai_model: str = ""

    @classmethod
    def from_environment(cls, **known: SecretStr | str) -> Self:
        """Read and check the environment.

        Args:
            **known: Settings from other places; they take precedence over the environment.

        Raises:
            SettingsError: One sentence per missing or wrong variable, with its name.
        """
        try:
            return cls(**known)  # type: ignore[arg-type]  # each is checked as its field
        except ValidationError as error:
            raise SettingsError(" ".join(map(_sentence, error.errors()))) from None

    @property
    def model_name(self) -> str:
        """The model's name; the deployment's name if no model is set."""
        return self.azure_openai_model or self.azure_openai_deployment

    def without_secrets(self) -> dict[str, str]:
        """All settings but the key, by name, as ``from_environment`` takes them."""
        return self.model_dump(exclude={"azure_openai_api_key"})

    @property
    def endpoint(self) -> Endpoint:
        """How to reach the model; without the key."""
        return Endpoint(
            url=self.azure_openai_endpoint,
            deployment=self.azure_openai_deployment,
            api_version=self.openai_api_version,
        )

    def check_needs_no_prefect(self) -> None:
        """Reject settings that only a Prefect server can resolve.

        Raises:
            SettingsError: The key is in a Secret block.
        """
        if self.azure_openai_api_key_block and not self.azure_openai_api_key:
            message = (
                "AZURE_OPENAI_API_KEY_BLOCK names a Secret block, which only a run with Prefect can open: "
                "set AZURE_OPENAI_API_KEY, or unset the variable to use Entra ID."
            )
            raise SettingsError(message)

    @field_validator("azure_openai_endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port  # urlsplit checks the port only when it is read
        except ValueError:
            raise ValueError(_NOT_A_URL) from None
        _expect(parts.username is None and parts.password is None, "must not contain a user or password")
        _expect(bool(parts.hostname), _NOT_A_URL)
        _expect(not parts.query and not parts.fragment, "must not contain a query or a fragment")
        _expect(
            parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")),
            "must start with https:// (http:// is accepted for loopback only)",
        )
        return url.rstrip("/")

    @field_validator("azure_openai_deployment")
    @classmethod
    def _check_deployment(cls, name: str) -> str:
        _expect(
            _DEPLOYMENT.fullmatch(name) is not None and name not in {".", ".."},
            "must be 1 to 64 letters, digits, dots, dashes or underscores",
        )
        return name

    @field_validator("azure_openai_api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None or not key.get_secret_value():
            return None
        characters = key.get_secret_value()
        _expect(
            characters.isascii() and characters.isprintable() and " " not in characters,
            "contains a character that no key has: copy the key again",
        )
        return key

    @field_validator("openai_api_version")
    @classmethod
    def _check_version(cls, version: str) -> str:
        _expect(
            _API_VERSION.fullmatch(version) is not None, "must look like 2024-10-21 or 2024-10-01-preview"
        )
        return version


def _expect(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not condition:
        raise ValueError(message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sentence(error: ErrorDetails) -> str:
    """Pydantic's error as a sentence, without the value, which may be a secret."""
    name = ".".join(map(str, error["loc"])).upper()
    if error["type"] == "missing":
        return f"{name} is not set: export it, see the settings table in README.md."
    return f"{name} {error['msg'].removeprefix('Value error, ')}."
