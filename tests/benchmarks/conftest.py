"""Peers that `make bench` installs in a folder of their own, found after everything else."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / ".peers"))
