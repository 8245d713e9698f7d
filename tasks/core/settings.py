"""The environment, read in one place.

Only this room reads environment variables; object storage credentials (``AWS_*``) are the exception, read by
the storage client by its own standard rules. A setting that is missing or wrong is one sentence that names
the variable, before anything is read or spent.
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
        azure_openai_endpoint: ``https://NAME.openai.azure.com``; plain http is for loopback alone.
        azure_openai_deployment: The name given to the model when it was deployed.
        azure_openai_api_key: The key; without one, Entra ID's default credential is used.
        azure_openai_api_key_block: The name of a Prefect Secret block that holds the key; the verbs open it.
        openai_api_version: Azure's API version; the latest generally available one by default.
        azure_openai_model: The model LlamaIndex should assume; by default the deployment's name.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    azure_openai_endpoint: str
    azure_openai_deployment: str
    azure_openai_api_key: SecretStr | None = None
    azure_openai_api_key_block: str = ""
    # The latest generally available version in Azure's API lifecycle page that serves chat completions.
    openai_api_version: Annotated[str, Field(min_length=1)] = "2024-10-21"
    azure_openai_model: str = ""

    @classmethod
    def from_environment(cls, **known: SecretStr) -> Self:
        """Read and check the environment.

        Args:
            **known: Settings that come from elsewhere, whatever the environment says.

        Raises:
            SettingsError: One sentence per missing or wrong variable, with its name.
        """
        try:
            return cls(**known)  # type: ignore[arg-type]  # each is checked as its field
        except ValidationError as error:
            raise SettingsError(" ".join(map(_sentence, error.errors()))) from None

    @property
    def model_name(self) -> str:
        """The model LlamaIndex should assume."""
        return self.azure_openai_model or self.azure_openai_deployment

    @property
    def endpoint(self) -> Endpoint:
        """Where the model is reached, without the key."""
        return Endpoint(
            url=self.azure_openai_endpoint,
            deployment=self.azure_openai_deployment,
            api_version=self.openai_api_version,
        )

    def check_needs_no_prefect(self) -> None:
        """Refuse what only a Prefect server could look up.

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
            _ = parts.port  # checked when it is asked for
        except ValueError:
            raise ValueError(_NOT_A_URL) from None
        _expect(parts.username is None and parts.password is None, "must not carry a user or password")
        _expect(bool(parts.hostname), _NOT_A_URL)
        _expect(not parts.query and not parts.fragment, "must not carry a query or a fragment")
        _expect(
            parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")),
            "must start with https:// (http:// is for loopback alone)",
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
            "holds a character that no key has: copy the key again",
        )
        return key

    @field_validator("openai_api_version")
    @classmethod
    def _check_version(cls, version: str) -> str:
        _expect(
            _API_VERSION.fullmatch(version) is not None, "must look like 2024-10-21 or 2024-10-01-preview"
        )
        return version


def _expect(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not holds:
        raise ValueError(what)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sentence(finding: ErrorDetails) -> str:
    """Pydantic's finding as a sentence; the value is left out, it may be a secret."""
    name = ".".join(map(str, finding["loc"])).upper()
    if finding["type"] == "missing":
        return f"{name} is not set: export it, see the settings table in README.md."
    return f"{name} {finding['msg'].removeprefix('Value error, ')}."
