"""PostgreSQL and an MLflow server on it, for tests; both on 127.0.0.1, both ended with the test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MISSING = "no PostgreSQL here; on Debian: apt-get install postgresql"


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A database of its own in a folder of its own; its address for SQLAlchemy."""
    programs = postgres_programs()
    assert programs is not None, MISSING
    # Under /tmp and not pytest's folder, which is closed to the user that PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="goodnet-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]
    port = free_port()
    data = str(folder / "data")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": str(folder)}
    subprocess.run(
        [
            *as_user,
            str(programs / "initdb"),
            "-D",
            data,
            "-U",
            "mlflow",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        **quiet,
    )
    server = subprocess.Popen(
        [
            *as_user,
            str(programs / "postgres"),
            "-D",
            data,
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-k",
            str(folder),
            "-c",
            "fsync=off",
        ],
        start_new_session=True,
        **quiet,
    )
    try:
        psql = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "-d"]
        for _ in range(600):
            if subprocess.run([*psql, "postgres", "-c", "CREATE DATABASE mlflow"], **quiet).returncode == 0:
                break
            time.sleep(0.2)
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        os.killpg(server.pid, signal.SIGINT)  # ends at once, in order
        server.wait(60)
        shutil.rmtree(folder)


class MlflowServer:
    """``infra/mlflow-server.sh`` as a person would start it."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "mlflow-server.log"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": database,
            "PORT": str(self.port),
            "ARTIFACTS": str(folder / "artifacts"),
            "WORKERS": "1",
            "PATH": path,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(ROOT / "infra" / "mlflow-server.sh")],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def wait(self, seconds: float = 300) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.3)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """With its worker processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
            self.process.wait(60)
            self.process = None


@contextlib.contextmanager
def mlflow_on_postgres(folder: Path) -> Iterator[MlflowServer]:
    """Started, and answering."""
    with postgres() as database:
        server = MlflowServer(database, folder)
        try:
            server.start()
            server.wait()
            yield server
        finally:
            server.kill()
