"""Prefect's API for one process: the configured server, or a temporary one that lives as long as
the flows that need it.
"""

import contextlib
import fcntl
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

# Migrating an empty database takes 10 s of one core and starting 8 s more, both several times that
# on a busy machine
START_SECONDS = 180
DRAIN_SECONDS = 5
_waiting: list["_Child"] = []


def quiet() -> dict[str, str]:
    """Environment for Prefect inside a command: no telemetry, and nothing on the terminal but what
    the command itself says.
    """
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "CRITICAL"),
        "PREFECT_CLI_COLORS": "false",
    }


@contextlib.contextmanager
def session(home: Path | None = None) -> Iterator[None]:
    """Flows called in this context find a Prefect API: that of PREFECT_API_URL where it is set,
    else a temporary server.

    The temporary server starts in the background: the first flow waits for it (`ready`), what comes
    before does not. Its database lies in `home`, which makes the next start 10 s shorter, else in a
    temporary folder. A profile of the user has no say in it.
    """
    with contextlib.ExitStack() as stack:
        if os.environ.get("PREFECT_API_URL"):
            stack.enter_context(_environment(quiet()))
        else:
            child = _Child(stack.enter_context(_own(home)))
            stack.callback(child.stop)
            stack.enter_context(_environment({**child.settings, "PREFECT_API_URL": child.url}))
            child.stack = stack
            _waiting.append(child)
            stack.callback(_waiting.clear)
        yield


def ready() -> None:
    """Wait until the temporary server of this context answers; at once where there is none, or for
    the second time.

    Raises RuntimeError with the last line of its log when it does not start.
    """
    while _waiting:
        child = _waiting.pop()
        child.wait()
        _apply_settings(child)


class _Child:
    """The server's process. It ends with this process, however that ends: its standard input is
    closed then.
    """

    def __init__(self, home: Path) -> None:
        self.log = home / "server.log"
        self.settings = {
            **quiet(),
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            **_LEAN,
        }
        self.stack = contextlib.ExitStack()
        with (
            socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
            self.log.open("wb") as log,
        ):
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.deployments.prefect_server", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_without_prefect(os.environ) | self.settings,
                pass_fds=[listener.fileno()],
                # Ctrl-C is for this process, which still has to report to the server
                start_new_session=True,
            )

    def wait(self) -> None:
        """One request, which the listening socket holds until the server takes it; a server that
        dies closes the socket.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=START_SECONDS) as answer:
                answer.read()
        except OSError as error:
            said = self.log.read_text(errors="replace").strip().splitlines() or [str(error)]
            raise RuntimeError(
                f"Prefect's temporary server did not start: {said[-1]} (log: {self.log})"
            ) from error

    def stop(self) -> None:
        self._process.kill()  # nothing in it outlives the flows
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


# What no flow of one command needs: the web page, block types, stored logs
_LEAN = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


def _without_prefect(environment: "os._Environ[str]") -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}


def _apply_settings(child: _Child) -> None:
    """Read Prefect's settings again from the environment: it may have been imported, with others,
    before.
    """
    import prefect.context
    from prefect.events.worker import EventsWorker
    from prefect.logging.configuration import setup_logging
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, Profile

    # Nobody waits for the heartbeats of a flow in this process, and ending their thread costs each
    # flow a second
    profile = Profile(name="winnow", settings={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    child.stack.enter_context(
        prefect.context.use_profile(
            profile, override_environment_variables=True, include_current_context=False
        )
    )
    setup_logging()
    # it warns of each event that waits at the end
    logging.getLogger(EventsWorker.__name__).setLevel(logging.ERROR)
    child.stack.callback(EventsWorker.drain_all, timeout=DRAIN_SECONDS, at_exit=False)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _own(home: Path | None) -> Iterator[Path]:
    """The folder of the database: `home` unless another process has its server there, else a
    temporary one.
    """
    with contextlib.ExitStack() as stack:
        if home is None or not _locked(stack, home):
            home = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(
                        prefix="winnow-prefect-", ignore_cleanup_errors=True
                    )
                )
            )
        yield home


def _locked(stack: contextlib.ExitStack, home: Path) -> bool:
    home.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context((home / "lock").open("wb"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _serve(descriptor: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = uvicorn.Config(
        create_app(ephemeral=True, final=True), log_level="error", lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
