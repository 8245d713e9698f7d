"""Prices of tokens, from the package ``genai-prices``, which includes its data: no network access.

They are list prices in US dollars; the user can override both, since the prices of a contract may differ.
"""

from dataclasses import dataclass

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model's tokens.

    Attributes:
        input_usd: US dollars per million prompt tokens.
        output_usd: US dollars per million completion tokens.
    """

    input_usd: float
    output_usd: float

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Cost of these tokens in US dollars."""
        return (prompt_tokens * self.input_usd + completion_tokens * self.output_usd) / _MILLION


def price_of(model: str, input_usd: float | None = None, output_usd: float | None = None) -> Price | None:
    """The list price of a model on Azure, with optional overrides.

    Args:
        model: The model's name.
        input_usd: US dollars per million prompt tokens; None for the list price.
        output_usd: US dollars per million completion tokens; None for the list price.

    Returns:
        The price; None if the model is not listed and an override is missing.
    """
    listed = _listed(model)
    if listed is None and (input_usd is None or output_usd is None):
        return None
    fallback = listed or Price(0.0, 0.0)
    return Price(
        fallback.input_usd if input_usd is None else input_usd,
        fallback.output_usd if output_usd is None else output_usd,
    )


def _listed(model: str) -> Price | None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - loads the whole price list

    try:
        found = calc_price(Usage(input_tokens=_MILLION, output_tokens=_MILLION), model, provider_id="azure")
    except LookupError:
        return None
    return Price(float(found.input_price), float(found.output_price))
