"""Starting the dashboard: a streamlit server on loopback, which tells nobody anything."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from pipelines.store import Folder

_LIGHT = {
    "backgroundColor": "#fffefa",
    "secondaryBackgroundColor": "#f3f1e8",
    "textColor": "#20201d",
    "primaryColor": "#17708f",
}
_DARK = {
    "backgroundColor": "#161614",
    "secondaryBackgroundColor": "#1f1f1c",
    "textColor": "#e6e3d9",
    "primaryColor": "#5fb4d0",
}
_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "server.headless": "true",  # opens no browser and asks nothing
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "theme.baseRadius": "small",
    "theme.font": (
        "Charter, 'Bitstream Charter', 'Iowan Old Style', 'Source Serif 4', 'Noto Serif', Georgia,"
        " serif"
    ),
    **{f"theme.light.{name}": value for name, value in _LIGHT.items()},
    **{f"theme.dark.{name}": value for name, value in _DARK.items()},
}


def command(root: Folder, host: str = "127.0.0.1", port: int = 8501) -> list[str]:
    """The command that serves the dashboard of a root."""
    options = {**_OPTIONS, "server.address": host, "server.port": str(port)}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(Path(__file__).with_name("app.py")),
        *given,
        "--",
        root.url,
    ]


def serve(root: Folder, host: str = "127.0.0.1", port: int = 8501) -> NoReturn:
    """Become the server of the dashboard, until it is stopped.

    The command's own process turns into the server, so that nothing is left behind however the
    command ends: Ctrl-C, a closed terminal, `kill -9`. Idle workers end too, as their standard
    input is closed.
    """
    home = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    sys.stderr.flush()
    words = command(root, host, port)
    os.execve(words[0], words, {**os.environ, "PYTHONPATH": paths})
