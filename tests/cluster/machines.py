"""Machines of one's own, as far as Linux goes without virtual ones: each has its process tree, network
address, host name, home, ``/tmp``, ``/run`` and ``/dev/shm``; disks and installed programs are those
of this machine. Whatever runs on one ends with it, and nothing it writes outside the folders that it
shares is left behind. Needs root.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = "/mnt/shared"  # where every machine sees the folder that they share

# The first process of a machine. Writes to the home and to /tmp stay in memory, over what is there;
# login shells start as on a fresh Debian, whatever this machine's own are set to.
_BOOT = """
set -e
hostname "$NAME"
ip link set lo up
mount -t tmpfs tmpfs /mnt
mkdir /mnt/shared /mnt/over
for place in root tmp; do mkdir -p /mnt/over/$place/upper /mnt/over/$place/work; done
mount --bind "$FOLDER" /mnt/shared
for place in root tmp; do
  over=/mnt/over/$place
  mount -t overlay overlay -o "lowerdir=/$place,upperdir=$over/upper,workdir=$over/work" /$place
done
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
rm -rf /root/.bashrc /root/.bash_profile /root/.bash_login /root/.ssh /root/.ray
echo 'umask 022' >/root/.profile
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir /run/sshd
echo up
while :; do sleep 3600 & wait $!; done
"""


class Machine:
    """One machine. It is there until ``off``, or until this process ends in whatever way."""

    def __init__(self, name: str, shared: Path, address: str | None = None) -> None:
        self.name, self.address = name, address
        self.process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--mount-proc",
                "--uts",
                "--ipc",
                "bash",
                "-c",
                _BOOT,
            ],
            env={**_plain_environment(), "NAME": name, "FOLDER": str(shared)},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout and self.process.stderr
        if self.process.stdout.readline() != "up\n":
            raise RuntimeError(f"machine {name} does not start: {self.process.stderr.read()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.first = int(children.split()[0])  # its process 1, as this machine counts

    def inside(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs ``command`` there, in root's home, with a plain environment."""
        set_ = [f"{key}={value}" for key, value in {**_plain_environment(), **(env or {})}.items()]
        return [
            "nsenter",
            "-t",
            str(self.first),
            "--net",
            "--pid",
            "--mount",
            "--uts",
            "--ipc",
            "--wdns=/root",
            "env",
            "-i",
            *set_,
            *command,
        ]

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.inside(*command, env=env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        timeout: float = 180,
        check: bool = True,
        input: str = "",  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:
        """Raises AssertionError with all that was said when ``check`` and the status is not 0."""
        done = subprocess.run(
            self.inside(*command, env=env),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = f"{self.name}: {' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not check or done.returncode == 0, said
        return done

    def off(self) -> None:
        """All at once and without notice, as when the power fails."""
        self.process.kill()
        self.process.wait()


class Network:
    """A switch that joins machines. It is a machine itself, so that this one's network is left alone."""

    def __init__(self, folder: Path, prefix: str = "10.77.0") -> None:
        self.prefix, self.plugged = prefix, 0
        self.switch = Machine("switch", folder)
        self.switch.run("ip", "link", "add", "lan", "type", "bridge")
        self.switch.run("ip", "link", "set", "lan", "up")

    def join(self, machine: Machine) -> str:
        """Plug a machine in. Returns its address."""
        self.plugged += 1
        address, port = f"{self.prefix}.{self.plugged}", f"port{self.plugged}"
        # Only the switch's network is entered here: the other machine's number counts outside alone.
        subprocess.run(
            [
                "nsenter",
                "-t",
                str(self.switch.first),
                "--net",
                "ip",
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                str(machine.first),
            ],
            check=True,
        )
        self.switch.run("ip", "link", "set", port, "master", "lan", "up")
        machine.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.address = address
        return address

    def off(self) -> None:
        self.switch.off()


def _plain_environment() -> dict[str, str]:
    """What a machine that has just been started knows; nothing of the tests' own environment."""
    return {
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "OMP_NUM_THREADS": "1",
        # Ray's workers give way to all else, and must be up within a minute: too little where several
        # machines share two cores with the rest of this one.
        "RAY_worker_niceness": "0",
        "RAY_worker_register_timeout_seconds": "600",
    }


def off_all(machines: Sequence[Machine | Network]) -> None:
    for machine in machines:
        machine.off()
