"""Settings of all tests, and how they share the cores."""

import os

import pytest
from hypothesis import settings

# The same examples in each run, so that main fails for what was changed; `--hypothesis-profile
# explore` looks further. No deadline: how long an example takes says what else the machine does.
settings.register_profile("winnow", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("winnow")

WORKER_BYTES = 3 << 30  # 1.2 GB once all is imported, and what a test starts

# One thread in each process of the suite and in what it starts: there are as many processes as
# cores
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

# Servers of tests are on loopback, where no proxy of the machine is to be asked
for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(variable, None)
    os.environ.pop(variable.upper(), None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core, as far as the memory reaches; one file alone is run in this
    process.
    """
    if len(config.args) == 1 and ".py" in config.args[0]:
        return 0
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)), memory // WORKER_BYTES))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no text go by the name of their argument: workers must agree on names, and
    gzip writes the time into its header.
    """
    return (
        argname
        if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable())
        else None
    )
