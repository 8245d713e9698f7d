"""Starting, configuring, counting and stopping the local endpoint, in this process and in another one."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.local.endpoint import Endpoint, main, serve
from tasks.local.endpoint_config import EndpointConfig, parse_flags, to_flags
from tasks.local.endpoint_process import ROOT, spawn
from tasks.local.fault_spec import FaultSpec, fault_for, markers
from tasks.local.faults import KINDS
from tests.endpoint_requests import CHAT, LEAD, PROSE, azure_client, complete, complete_once, post


def test_latency_holds_requests_in_flight_and_the_peak_is_counted() -> None:
    with serve(EndpointConfig(latency_ms=100, sigma=0.1)) as endpoint:

        async def run() -> None:
            async with azure_client(endpoint) as client:
                await asyncio.gather(*(complete(client, f"Row {number}.") for number in range(12)))

        asyncio.run(run())
    stats = endpoint.stats()
    assert (stats.peak_in_flight, stats.in_flight) == (12, 0)
    assert (stats.rows, stats.row_requests_max, stats.row_paid_max) == (12, 1, 1)


def test_stopping_an_endpoint_cuts_off_requests_in_flight_at_once() -> None:
    with serve() as endpoint:
        address = urlsplit(endpoint.url)
        body = json.dumps({"messages": [{"role": "user", "content": "[[fault:hang]]"}]})
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        connection.request("POST", CHAT, body, {"api-key": "k"})
        while endpoint.stats().in_flight == 0:
            pass
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    stats = endpoint.stats()
    assert (stats.requests, stats.abandoned, stats.in_flight) == (1, 1, 0)


def test_reset_clears_rows_bodies_and_counts(recording: Endpoint) -> None:
    complete_once(recording, PROSE)
    recording.reset()
    assert recording.stats().requests == recording.requests_for(PROSE) == len(recording.bodies) == 0


def test_a_text_with_a_lone_surrogate_is_answered_and_counted(recording: Endpoint) -> None:
    body = b'{"messages": [{"role": "user", "content": "\\ud800 is half a character."}]}'
    assert post(recording, CHAT, body, {"api-key": "k"})[0] == 200
    assert recording.requests_for("\ud800 is half a character.") == 1


@pytest.mark.parametrize("changes", [{"port": 1}, {"latency_ms": -1}, {"no_such": 1}, {"faults": {"x": "y"}}])
def test_an_invalid_setting_is_rejected_locally_and_remotely_with_the_same_message(
    recording: Endpoint, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"port|latency_ms|no_such|unknown fault"):
        recording.configure(**changes)
    status, reply = post(recording, "/configure", json.dumps(changes).encode(), {})
    assert status == 400
    assert reply["error"]["message"]


@pytest.mark.parametrize("body", [b"null", b"[1]", b"{"])
def test_settings_that_are_not_a_json_object_are_rejected(recording: Endpoint, body: bytes) -> None:
    assert post(recording, "/configure", body, {})[0] == 400


def test_a_port_in_use_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), serve(EndpointConfig(port=port)):
            pass
        with pytest.raises(SystemExit) as stop:
            main(["--port", str(port)])
    assert stop.value.code == 2
    assert "in use" in capsys.readouterr().err


def test_an_endpoint_process_replies_counts_and_can_be_configured() -> None:
    config = EndpointConfig(faults={"busy": "rate-limit:times=1"}, record_bodies=True, model="gpt-x")
    with spawn(config) as endpoint:
        assert complete_once(endpoint, PROSE).model == "gpt-x"
        with pytest.raises(openai.RateLimitError):
            complete_once(endpoint, PROSE, "busy")
        assert complete_once(endpoint, PROSE, "busy").choices[0].message.content == LEAD
        assert endpoint.stats().requests_by_status == {200: 2, 429: 1}
        assert (endpoint.requests_for(PROSE), endpoint.paid_for(PROSE)) == (3, 2)
        assert [recorded.deployment for recorded in endpoint.bodies] == ["gpt", "busy", "busy"]
        endpoint.configure(model="gpt-y")
        assert complete_once(endpoint, PROSE).model == "gpt-y"
        with pytest.raises(ValueError, match="no_such"):
            endpoint.configure(no_such=1)
        endpoint.reset()
        assert endpoint.stats().requests == 0


def test_times_of_requests_and_replies_are_on_the_machine_s_monotonic_clock() -> None:
    with spawn() as endpoint:
        began_s = time.monotonic()
        for _ in range(2):
            complete_once(endpoint, PROSE)
        stats, ended_s = endpoint.stats(), time.monotonic()
        assert stats.first_request_s
        assert stats.last_request_s
        assert stats.last_reply_s
        assert began_s < stats.first_request_s < stats.last_request_s < stats.last_reply_s < ended_s
        endpoint.reset()
        assert (endpoint.stats().first_request_s, endpoint.stats().last_reply_s) == (None, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_stops_on_a_signal_and_prints_its_counters(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tasks.local.endpoint"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("0 requests for 0 rows")


def test_help_names_every_setting_and_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(kind in shown for kind in KINDS)
    assert "--tokens-per-minute" in shown


configs = st.builds(
    EndpointConfig,
    port=st.integers(0, 65535),
    latency_ms=st.floats(0, 1e6),
    sigma=st.floats(0, 3),
    seed=st.integers(),
    requests_per_minute=st.none() | st.floats(0.1, 1e9),
    tokens_per_minute=st.none() | st.floats(0.1, 1e9),
    api_key=st.none() | st.text(min_size=1),
    model=st.text(min_size=1),
    faults=st.dictionaries(st.from_regex(r"[\w.-]{1,20}", fullmatch=True), st.sampled_from(sorted(KINDS))),
    fault_rate=st.floats(0, 1),
    record_bodies=st.booleans(),
)


@given(configs)
def test_flags_and_config_convert_into_each_other(config: EndpointConfig) -> None:
    assert parse_flags(to_flags(config)) == config


@pytest.mark.parametrize(
    "spec", ["no-such", "hang:times=x", "hang:times=-1", "hang:colour=1", "hang:times", ""]
)
def test_an_unknown_fault_is_rejected_before_a_socket_opens(spec: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        EndpointConfig(faults={"gpt": spec})


def test_several_markers_in_a_text_apply_one_after_the_other() -> None:
    specs = markers("[[fault:rate-limit:times=2:retry-after-ms=5]] and [[fault:reset:times=1]] then prose")
    played = [fault_for(specs, number) for number in range(1, 5)]
    limited = FaultSpec("rate-limit", times=2, retry_after_ms=5)
    assert played == [limited, limited, FaultSpec("reset", times=1), None]
