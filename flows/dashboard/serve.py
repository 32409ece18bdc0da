"""Starting the dashboard: a streamlit server on loopback, which tells nobody anything."""

import os
import subprocess
import sys
from pathlib import Path

from pipelines.store import Folder

_LIGHT = {"backgroundColor": "#fffefa", "secondaryBackgroundColor": "#f3f1e8", "textColor": "#20201d", "primaryColor": "#17708f"}
_DARK = {"backgroundColor": "#161614", "secondaryBackgroundColor": "#1f1f1c", "textColor": "#e6e3d9", "primaryColor": "#5fb4d0"}
_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "server.headless": "true",  # opens no browser and asks nothing
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "theme.baseRadius": "small",
    "theme.font": "Charter, 'Bitstream Charter', 'Iowan Old Style', 'Source Serif 4', 'Noto Serif', Georgia, serif",
    **{f"theme.light.{name}": value for name, value in _LIGHT.items()},
    **{f"theme.dark.{name}": value for name, value in _DARK.items()},
}


def command(root: Folder, host: str = "127.0.0.1", port: int = 8501) -> list[str]:
    """The command that serves the dashboard of a root."""
    options = {**_OPTIONS, "server.address": host, "server.port": str(port)}
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("app.py")), *given, "--", root.url]


def serve(root: Folder, host: str = "127.0.0.1", port: int = 8501) -> int:
    """Serve until it is stopped; the exit status. Ctrl-C ends it well."""
    home = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(command(root, host, port), env={**os.environ, "PYTHONPATH": paths})
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        return 0
