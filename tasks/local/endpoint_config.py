"""Settings of the local endpoint, and the command-line flags generated from them.

Each setting is defined once, as a field with its help text. `parse_flags(to_flags(config)) == config` holds
for every config.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tasks.local.fault_spec import FaultSpec

T = TypeVar("T")


def _setting(default: T, text: str) -> T:
    """A field whose description is also the help text of its flag."""
    # Type checkers see a value of the default's type; dataclasses sees a field.
    setting: T = field(default=default, metadata={"help": text})
    return setting


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """All settings of a local endpoint; each field is also a flag of the same name in kebab case.

    Raises:
        ValueError: A value is out of range, or a fault is not in `tasks.local.faults`.
    """

    port: int = _setting(0, "TCP port on 127.0.0.1; 0 takes a free one")
    latency_ms: float = _setting(0.0, "milliseconds before a reply; the median when sigma is set")
    sigma: float = _setting(0.0, "spread of a lognormal latency (sigma of its logarithm); 0 keeps it fixed")
    seed: int = _setting(7, "seed of the random latencies and random faults")
    requests_per_minute: float | None = _setting(None, "request quota; without it, unlimited")
    tokens_per_minute: float | None = _setting(
        None, "token quota, charged on arrival with prompt tokens + max_tokens; without it, unlimited"
    )
    bucket_window_s: float = _setting(10.0, "seconds of quota that can be used in one burst")
    retry_after_min_ms: int = _setting(1000, "shortest retry-after of a quota's 429, in milliseconds")
    api_key: str | None = _setting(
        None, "the only key (or bearer token) accepted; without it, any that is not empty"
    )
    model: str = _setting("gpt-4o-mini-2024-07-18", "model name in the replies")
    faults: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "flag": "--fault",
            "metavar": "DEPLOYMENT=KIND",
            "help": "requests to this deployment get this fault, e.g. busy=rate-limit:times=3; repeatable",
        },
    )
    fault_rate: float = _setting(0.0, "share of all requests, 0 to 1, that get fault-kind at random")
    fault_kind: str = _setting("server-error", "the fault of requests chosen by fault-rate")
    record_bodies: bool = _setting(
        default=False,
        text="keep every request's body and headers, without the key (tests only: memory grows)",
    )

    def __post_init__(self) -> None:
        """Check ranges and fault names."""
        _check_at_least(0, port=self.port, latency_ms=self.latency_ms, sigma=self.sigma)
        _check_at_least(0, retry_after_min_ms=self.retry_after_min_ms)
        for name in ("requests_per_minute", "tokens_per_minute", "bucket_window_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                message = f"{name} must be more than 0, not {value}"
                raise ValueError(message)
        if not 0 <= self.fault_rate <= 1:
            message = f"fault_rate must be from 0 to 1, not {self.fault_rate}"
            raise ValueError(message)
        for spec in (*self.faults.values(), self.fault_kind):
            FaultSpec.parse(spec)


def _check_at_least(minimum: float, **values: float) -> None:
    for name, value in values.items():
        if value < minimum:
            message = f"{name} must be at least {minimum}, not {value}"
            raise ValueError(message)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting to a parser."""
    hints = get_type_hints(EndpointConfig)
    for setting in fields(EndpointConfig):
        parser.add_argument(_flag(setting), dest=setting.name, **_flag_kind(setting, hints[setting.name]))


def from_flags(arguments: argparse.Namespace) -> EndpointConfig:
    """Build the config from parsed flags.

    Raises:
        ValueError: A value is out of range, or a fault is unknown.
    """
    values = {setting.name: getattr(arguments, setting.name) for setting in fields(EndpointConfig)}
    return EndpointConfig(**{**values, "faults": dict(values["faults"])})


def to_flags(config: EndpointConfig) -> list[str]:
    """The flags that produce this config; settings with default values are left out."""
    flags: list[str] = []
    for setting in fields(EndpointConfig):
        value = getattr(config, setting.name)
        if isinstance(value, Mapping):
            flags += [f"{_flag(setting)}={name}={kind}" for name, kind in value.items()]
        elif value is True:
            flags.append(_flag(setting))
        elif value is not None and value != setting.default:
            flags.append(f"{_flag(setting)}={value}")
    return flags


def parse_flags(flags: Sequence[str]) -> EndpointConfig:
    """Build the config from a list of flags."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_flags(parser.parse_args(flags))


def _flag(setting: Field[Any]) -> str:
    return str(setting.metadata.get("flag", f"--{setting.name.replace('_', '-')}"))


def _flag_kind(setting: Field[Any], hint: Any) -> dict[str, Any]:
    """Keyword arguments of `add_argument` for a field of this type."""
    shown = {"help": setting.metadata["help"]}
    if get_origin(hint) is Mapping:
        shown["metavar"] = setting.metadata["metavar"]
        return {**shown, "action": "append", "type": _pair, "default": []}
    if hint is bool:
        return {**shown, "action": "store_true"}
    choices = [kind for kind in get_args(hint) if kind is not NoneType] or [hint]
    default = None if setting.default is MISSING else setting.default
    if default is not None:
        shown["help"] += f" (default: {default})"
    return {**shown, "type": choices[0], "default": default, "metavar": choices[0].__name__.upper()}


def _pair(text: str) -> tuple[str, str]:
    name, equals, kind = text.partition("=")
    if not (name and equals and kind):
        message = f"{text!r} is not DEPLOYMENT=KIND"
        raise argparse.ArgumentTypeError(message)
    return name, kind
