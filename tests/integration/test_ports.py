"""A Ray that a sweep starts for itself can be reached from this machine only."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import ray
import psutil  # Ray brings it
from sweeps.execution.ray_cluster import connected
before = {p.pid for p in psutil.process_iter()}
with connected():
    print(ray.util.get_node_ip_address(), ray.get(ray.remote(ray.util.get_node_ip_address).remote()))
    session = ray._private.worker._global_node.get_session_dir_path()
    children = psutil.Process().children(recursive=True)
    mine = {p.pid for p in [psutil.Process(), *children]}
    # By attributes: another program's process may end while it is looked at.
    mine |= {p.pid for p in psutil.process_iter(["cmdline"])
             if any(session in part for part in p.info["cmdline"] or [])}
    listening = [c for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in mine]
    print(len(listening), {c.laddr.ip.removeprefix("::ffff:") for c in listening})
"""


def test_ray_listens_on_loopback() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "127.0.0.1 127.0.0.1"
    count, addresses = second.split(" ", 1)
    assert int(count) >= 3 and addresses == "{'127.0.0.1'}"
