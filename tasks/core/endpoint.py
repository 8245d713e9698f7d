"""Endpoint: how to reach a model. ``prompt.Request`` holds what is sent to it."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How to reach a model, without the credential, so that it can be logged and pickled.

    Attributes:
        url: The resource's URL, such as ``https://NAME.openai.azure.com``.
        deployment: The deployment's name.
        api_version: Azure's API version.
    """

    url: str
    deployment: str
    api_version: str

    @property
    def name(self) -> str:
        """Deployment and host, for logs and the ledger."""
        return f"{self.deployment}@{urlsplit(self.url).hostname}"
