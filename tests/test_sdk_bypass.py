import asyncio
import gzip
import json
from collections.abc import Mapping

import pytest

from tasks.core.endpoint import Endpoint
from tasks.core.errors import DeploymentError, RateLimitError, RequestError
from tasks.core.llm.client import record_request
from tasks.core.llm.sdk_bypass import JsonObject, RowRejectedError, Sender
from tasks.core.llm.transport import HttpReply, Transport
from tests.endpoint_requests import REQUEST

ENDPOINT = Endpoint(url="https://x.openai.azure.com", deployment="d", api_version="2024-10-21")
GZIPPED = (b"Content-Encoding", b"gzip")
COMPLETION = json.dumps({"choices": [], "model": "m"}).encode()


class Answering(Transport):
    """Answers every request with one reply."""

    def __init__(self, reply: HttpReply) -> None:
        super().__init__(max_connections=1, timeout_s=1.0)
        self.reply = reply

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpReply:  # noqa: ARG002
        return self.reply


def answered(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> JsonObject:
    async def run() -> JsonObject:
        recorded = await record_request(ENDPOINT, REQUEST, timeout_s=1.0)
        return await Sender(Answering(HttpReply(status, headers, body)), recorded, dict).send(b"{}")

    return asyncio.run(run())


def test_a_compressed_reply_is_decompressed() -> None:
    assert answered(200, gzip.compress(COMPLETION), GZIPPED).model == "m"


def test_a_reply_that_is_not_compressed_as_its_header_states_is_retried() -> None:
    with pytest.raises(RequestError) as caught:
        answered(200, COMPLETION, GZIPPED)
    assert caught.value.possibly_paid


def test_a_429_that_is_not_compressed_as_its_header_states_is_still_a_429() -> None:
    with pytest.raises(RateLimitError) as caught:
        answered(429, b"not gzip", GZIPPED, (b"Retry-After", b"7"))
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"code": None}, "HTTP 400"),
        ({"code": 7}, "HTTP 400"),
        ({"code": "odd"}, "HTTP 400, odd"),
        ({}, "HTTP 400"),
    ],
)
def test_the_outcome_of_an_error_names_its_code_if_it_has_one(error: dict[str, object], message: str) -> None:
    with pytest.raises(RowRejectedError) as caught:
        answered(400, json.dumps({"error": error}).encode())
    assert caught.value.outcome.error == message


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_value", "param": "max_tokens"},
        {"code": "OperationNotSupported"},
        {"param": "temperature"},
    ],
)
def test_a_wrong_parameter_of_the_request_stops_the_run_and_states_how_to_fix_it(
    error: dict[str, object],
) -> None:
    with pytest.raises(DeploymentError, match="check max_output_tokens"):
        answered(400, json.dumps({"error": error}).encode())


@pytest.mark.parametrize("parameter", ["messages", "messages[1].content", "prompt", None, 7])
def test_an_error_about_the_messages_concerns_its_row_only(parameter: object) -> None:
    with pytest.raises(RowRejectedError):
        answered(400, json.dumps({"error": {"code": "odd", "param": parameter}}).encode())


@pytest.mark.parametrize("body", [b"[]", b"null", b"17"])
def test_a_reply_that_is_not_a_json_object_has_no_fields(body: bytes) -> None:
    assert answered(200, body).choices is None


@pytest.mark.parametrize("body", [b"", b"<html>"])
def test_a_reply_that_is_not_json_is_retried(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        answered(200, body)
    assert caught.value.possibly_paid


def test_the_recorded_request_holds_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY", "OPENAI_ORG_ID"):
        monkeypatch.setenv(name, "very-secret")

    async def run() -> Sender:
        recorded = await record_request(ENDPOINT, REQUEST, timeout_s=1.0)
        return Sender(Answering(HttpReply(200, (), b"{}")), recorded, dict)

    headers = asyncio.run(run())._headers  # noqa: SLF001 - the headers of every request
    assert "very-secret" not in str(headers)
    assert "api-key" not in headers
