"""A Flink session cluster on this machine: a JobManager, two TaskManagers with a pool of Python
workers beside each, Beam's job server.

A job names one address for the pools, so each TaskManager has a hosts file in which the name means
another loopback address. All processes have small heaps, ports that were free, and a process group
each; they are killed when the block ends, and when the test dies.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POM = Path(__file__).with_name("flink.xml")
PIECES = ROOT / ".flink"  # ignored by git; 390 MB
CLUSTER = "apache-flink-libraries==1.19.3"
DOWNLOAD_SECONDS = 300.0
START_SECONDS = 60.0
POOLS = ("127.0.0.1", "127.0.0.2")  # what POOL means to each TaskManager
POOL = "worker-pool"
SLOTS = 2  # of each TaskManager: one alone can run a job of the parallelism that is asked for
# Flink and Beam look into these packages of Java 17, which are closed otherwise.
OPENED = [
    f"--add-opens=java.base/java.{name}=ALL-UNNAMED"
    for name in ("lang", "util", "nio", "net", "io", "time", "util.concurrent")
]
# What Flink's scripts would work out of one total; without them each size must be given. MiB.
SIZES = {
    "taskmanager.memory.framework.heap.size": 96,
    "taskmanager.memory.task.heap.size": 160,
    "taskmanager.memory.managed.size": 64,
    "taskmanager.memory.network.min": 64,
    "taskmanager.memory.network.max": 64,
    "taskmanager.memory.framework.off-heap.size": 64,
    "taskmanager.memory.task.off-heap.size": 64,
    "taskmanager.memory.jvm-metaspace.size": 160,
    "taskmanager.memory.jvm-overhead.min": 64,
    "taskmanager.memory.jvm-overhead.max": 64,
}
TASK_MANAGER = {
    **{name: f"{size}m" for name, size in SIZES.items()},
    "taskmanager.cpu.cores": "1",
    "taskmanager.numberOfTaskSlots": str(SLOTS),
    "taskmanager.host": "127.0.0.1",
}
TASK_MANAGER_RUNNER = ["org.apache.flink.runtime.taskexecutor.TaskManagerRunner"]
SIZED = [word for name, value in TASK_MANAGER.items() for word in ("-D", f"{name}={value}")]
CONFIG = {
    "jobmanager.rpc.address": "127.0.0.1",
    "jobmanager.memory.heap.size": "192m",
    "cluster.evenly-spread-out-slots": "true",
    "heartbeat.interval": "1000",  # a lost TaskManager is noticed within seconds
    "heartbeat.timeout": "6000",
    "slot.request.timeout": "20000",
    "rest.bind-address": "127.0.0.1",
}


class Missing(RuntimeError):
    """What the cluster needs and this machine lacks."""


def pieces() -> tuple[str, str]:
    """Class paths of Flink and of Beam's job server, downloaded once into `PIECES`. Raises
    Missing.
    """
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise Missing(f"no {tool}")
    uv = Path(sys.executable).with_name("uv")
    install = (
        [str(uv), "pip", "install"] if uv.exists() else [sys.executable, "-m", "pip", "install"]
    )
    cluster = _downloaded(
        "cluster-1.19.3",
        lambda out: [*install, "--quiet", "--no-deps", "--target", str(out), CLUSTER],
    )
    goal = [
        "mvn",
        "-B",
        "-q",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
    ]
    server = _downloaded("server-2.62.0", lambda out: [*goal, f"-DoutputDirectory={out}"])
    return f"{cluster}/pyflink/lib/*", f"{server}/*"


def _downloaded(name: str, command: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of what a command downloads, which appears whole or not at all."""
    place = PIECES / name
    if not place.exists():
        part = PIECES / f"{name}.part-{os.getpid()}"
        try:
            done = subprocess.run(
                command(part), capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as slow:
            raise Missing(f"{name}: not downloaded in {DOWNLOAD_SECONDS:.0f} s") from slow
        if done.returncode:
            raise Missing(
                f"{name} cannot be downloaded: {(done.stderr or done.stdout).strip()[-300:]}"
            )
        with contextlib.suppress(OSError):  # another test run was quicker
            part.rename(place)
        shutil.rmtree(part, ignore_errors=True)
    return place


@dataclass
class Cluster:
    """A running cluster: how a job is sent to it, and its processes by name."""

    folder: Path
    rest: int
    jobs_port: int
    pool_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """For Beam's PortableRunner."""
        environment = (
            "--environment_type=EXTERNAL",
            f"--environment_config={POOL}:{self.pool_port}",
        )
        return (f"--job_endpoint=localhost:{self.jobs_port}", *environment, "--parallelism=2")

    def ask(self, path: str) -> Any:
        """What Flink's REST interface says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/{path}", timeout=10) as reply:
            return json.load(reply)

    def jobs(self) -> list[str]:
        """The state of each job so far, the oldest first."""
        jobs = sorted(self.ask("jobs/overview")["jobs"], key=lambda job: job["start-time"])
        return [str(job["state"]) for job in jobs]

    def start(self, name: str, command: Sequence[str], **environment: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def kill(self, name: str) -> None:
        """End a process and those that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait(timeout=30)

    def log(self) -> str:
        """The last lines of each process's log."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that is ready for jobs. Raises Missing, or RuntimeError with the logs where it does
    not start.
    """
    flink, server = pieces()
    rest, rpc, jobs, pool = _free_ports(4)
    made = Cluster(folder=folder, rest=rest, jobs_port=jobs, pool_port=pool)
    try:
        _start(made, flink, server, rpc)
        _until(lambda: made.ask("overview")["taskmanagers"] == 2, made, "two TaskManagers")
        _until(lambda: _answers("localhost", jobs), made, "the job server")
        for host in POOLS:
            _until(lambda host=host: _answers(host, pool), made, f"the pool at {host}")  # type: ignore[misc]
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)


def _start(made: Cluster, flink: str, server: str, rpc: int) -> None:
    folder = made.folder
    config = {
        **CONFIG,
        "jobmanager.rpc.port": rpc,
        "rest.port": made.rest,
        "io.tmp.dirs": folder / "tmp",
    }
    (folder / "tmp").mkdir()
    (folder / "config.yaml").write_text(
        "".join(f"{name}: {value}\n" for name, value in config.items())
    )
    logged = ["-Dorg.apache.logging.log4j.level=INFO", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
    java = ["java", *OPENED, *logged, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k"]
    start = [
        "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        "--configDir",
        str(folder),
    ]
    made.start("jobmanager", [*java, "-Xmx192m", "-cp", flink, *start])
    for number, host in enumerate(POOLS, 1):
        hosts = folder / f"hosts-{number}"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {socket.gethostname()}\n{host} {POOL}\n")
        named = [*java, "-Xmx256m", f"-Djdk.net.hosts.file={hosts}"]
        made.start(
            f"taskmanager-{number}",
            [*named, "-cp", flink, *TASK_MANAGER_RUNNER, "--configDir", str(folder), *SIZED],
        )
        _start_pool(made, number, host)
    addresses = [
        "--job-host",
        "localhost",
        "--job-port",
        str(made.jobs_port),
        "--artifact-port",
        "0",
        "--expansion-port",
        "0",
    ]
    staged = [
        "--artifacts-dir",
        str(folder / "artifacts"),
        "--flink-master",
        f"127.0.0.1:{made.rest}",
    ]
    made.start(
        "jobserver",
        [
            *java,
            "-Xmx256m",
            "-cp",
            server,
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            *addresses,
            *staged,
        ],
    )


def _start_pool(made: Cluster, number: int, host: str) -> None:
    """Beside a TaskManager. It starts `python` from PATH: that must be this environment's, or its
    workers die unseen.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "tests.pipelines.flink_pool", f"{host}:{made.pool_port}"]
    made.start(f"pool-{number}", command, PATH=path, PYTHONPATH=str(ROOT))


def _until(ready: Callable[[], bool], made: Cluster, what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if ready():
                return
        if any(process.poll() is not None for process in made.processes.values()):
            break
        time.sleep(0.25)
    raise RuntimeError(f"the cluster did not start ({what}):\n{made.log()}")


def _answers(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=1):
        return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
