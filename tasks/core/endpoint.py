"""Where a model is reached, apart from what is asked of it."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How to reach a model; its credential travels apart from it, so that it can be shown and pickled.

    Attributes:
        url: Of the resource, as ``https://NAME.openai.azure.com``.
        deployment: The deployment's name.
        api_version: Azure's API version.
    """

    url: str
    deployment: str
    api_version: str

    @property
    def name(self) -> str:
        """The deployment and the host, as records and logs show them."""
        return f"{self.deployment}@{urlsplit(self.url).hostname}"
