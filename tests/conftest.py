"""Fixtures: an S3 server, local endpoints, a faulty proxy, and an installation of Prefect.

All of them listen on loopback, use temporary folders, and end with the tests.
"""

import fcntl
import os
import shutil
import signal
import tempfile

# Prefect reads its settings when it is first imported, so this comes before any other import.
os.environ.pop("PREFECT_API_URL", None)
os.environ.update(
    PREFECT_HOME=tempfile.mkdtemp(prefix="prefect-home-"),
    PREFECT_PROFILE="ephemeral",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    PREFECT_LOGGING_LEVEL="WARNING",
    # A machine that runs tests may be busy.
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
)

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from s3fs import S3FileSystem

from tasks.local.endpoint import serve
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import Endpoint
from tasks.local.sample import write_sample
from tests.faulty_s3_proxy import FaultyProxy, faulty_proxy
from tests.groups import GroupScheduling, longest_first
from tests.prefect_installation import Installation, installed
from tests.prefectserver import PrefectServer, free_port
from tests.s3server import S3Server, running_s3_server

# On a busy machine a slow example is not a failure.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# Background jobs of a shell ignore SIGINT; without this, programs that tests start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

Serve = Callable[..., Endpoint]


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Each group of tests runs in one process."""
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups that take longest run first."""
    items[:] = longest_first(items)


@pytest.fixture(autouse=True)
def kept_environment() -> Iterator[None]:
    """Restore the environment, since a run in the test's process sets the address of its Prefect server."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server for all tests."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, as ``s3://NAME``; the environment variables point to the server."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.new_bucket()


@pytest.fixture
def proxy(
    bucket: str,  # noqa: ARG001 - points the environment at the server first
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultyProxy]:
    """A faulty proxy; all requests of the product to S3 pass through it."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    # s3fs caches clients by their arguments, which do not include the address.
    S3FileSystem.clear_instance_cache()
    with faulty_proxy(s3_server.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts local endpoints: ``endpoint(latency_ms=20)``; the environment points to the last one."""
    with ExitStack() as stack:

        def start(**settings: object) -> Endpoint:
            context: AbstractContextManager[Endpoint] = serve(EndpointConfig(**settings))  # type: ignore[arg-type]  # checked by the config
            handle = stack.enter_context(context)
            monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", handle.url)
            monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
            monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "gpt-4o-mini")
            return handle

        yield start


@pytest.fixture(scope="session")
def new_prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's folder as the first start of a server leaves it, to be copied: the migrations take seconds.

    Of several processes that run tests, the first one that needs it makes it for all.
    """
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    home = shared / "new-prefect-home"
    with (shared / "new-prefect-home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            server = PrefectServer(free_port(), folder / "first-start")
            with server.running():
                pass
            server.home.rename(home)
    return home


@pytest.fixture
def prefect_home(new_prefect_home: Path, tmp_path: Path) -> Path:
    """Prefect's folder of this test's own, ``tmp_path / "prefect"``, with an empty database."""
    return Path(shutil.copytree(new_prefect_home, tmp_path / "prefect"))


@pytest.fixture(scope="session")
def prefect(
    s3_server: S3Server, new_prefect_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """One installation for all tests, with an endpoint of its own."""
    folder = tmp_path_factory.mktemp("prefect")
    shutil.copytree(new_prefect_home, folder / "prefect")
    with serve(EndpointConfig()) as llm, installed(folder, llm, s3_server.environment) as running:
        yield running


@pytest.fixture
def recording() -> Iterator[Endpoint]:
    """A local endpoint that records requests, for the tests of the endpoint itself."""
    with serve(EndpointConfig(record_bodies=True)) as handle:
        yield handle


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A folder with a few small sample partitions."""
    write_sample(tmp_path / "source", rows=40, partitions=3)
    return tmp_path / "source"


@pytest.fixture(params=["local", "s3"])
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A source and a destination."""
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")
    return f"{base}/in", f"{base}/out"


@pytest.fixture
def here(tmp_path: Path) -> tuple[str, str]:
    """A source and a destination on this machine."""
    return f"{tmp_path}/in", f"{tmp_path}/out"


@pytest.fixture
def server(endpoint: Serve) -> Endpoint:
    """An endpoint with the default configuration."""
    return endpoint()
