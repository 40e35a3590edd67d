"""A Ray cluster of two nodes on this machine that serves `deploy/ray/serve.yaml`; a process of its own in the tests.

Run as `python -m tests.deploy.ray_cluster GRPC_PORT HTTP_PORT TOKENS_FILE`. Each line on standard input is a command,
and each ends with that line on standard output: `wait N` until N edge replicas run, `kill` the second node without a
word to it, `add` a node.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
import yaml
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.schema import ReplicaState

import psutil  # isort: skip -- Ray's own copy, importable behind it
from tests.conftest import ROOT

NODE = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}


def serve_config(grpc_port: int, http_port: int, tokens: str) -> dict:
    """The deployed file, with this test's ports and tokens."""
    config = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    config["grpc_options"]["port"], config["http_options"]["port"] = grpc_port, http_port
    config["applications"][0]["args"]["tokens"] = tokens
    return config


def running_replicas() -> int:
    """Edge replicas that serve."""
    application = serve.status().applications.get("weaklink")
    if application is None or "edge" not in application.deployments:
        return 0
    return application.deployments["edge"].replica_states.get(ReplicaState.RUNNING, 0)


def kill(cluster: Cluster, node) -> None:
    """Everything on the node at once, as a power cut does it: proxy, replicas, and what would tell of their end."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def main() -> int:
    grpc_port, http_port, tokens = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    # Ray prints where it likes: standard output proper is for our answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        second = cluster.add_node(**NODE)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "serve.yaml")
            config.write_text(yaml.safe_dump(serve_config(grpc_port, http_port, tokens)))
            run = ["serve", "run", "--non-blocking", "--address", cluster.address, str(config)]
            subprocess.run([Path(sys.executable).parent / run[0], *run[1:]], check=True)
        ray.init(address=cluster.address, log_to_driver=False)
        for line in sys.stdin:
            match line.split():
                case ["wait", replicas]:
                    while running_replicas() != int(replicas):
                        time.sleep(0.2)
                case ["kill"]:
                    kill(cluster, second)
                case ["add"]:
                    second = cluster.add_node(**NODE)
            print(line.strip(), file=answers, flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
