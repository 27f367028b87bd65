"""What it costs an agent to wait: five polling connections by HTTPS beside five by Halibut, at the same time."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import say
from tests.e2e.stage import Stage

SECONDS = 95
"""Three rounds of a poll."""
WAYS = ("Halibut", "HTTPS")


def cost(pid: int) -> tuple[int, int]:
    """Ticks of the processor, and switches to the process, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "ctxt_switches" in line]
    return int(fields[11]) + int(fields[12]), sum(int(line.split()[-1]) for line in switches)


def main() -> None:
    with Stage() as stage:
        server = stage.start_server()
        agents = {}
        for name in WAYS:
            how = "--https" if name == "HTTPS" else f"--server-comms-port={server.comms_port}"
            stage.make_instance(name, "--noListen=True")
            stage.run("set-polling-connection-count", f"--instance={name}", "--pollingConnectionCount=5")
            stage.run(
                *("register-worker", f"--instance={name}", f"--server={server.rest}", f"--name={name}"),
                *("--comms-style=TentacleActive", "--workerpool=Default Worker Pool", how),
            )
            agents[name] = stage.start_agent(name, "as poll://")
            agents[name].wait_for("all 5 connections are up")
        time.sleep(5)
        before = {name: cost(agent.pid) for name, agent in agents.items()}
        time.sleep(SECONDS)
        for name, agent in agents.items():
            ticks, switches = (now - then for now, then in zip(cost(agent.pid), before[name], strict=True))
            resident = next(
                line.split(":")[1].strip()
                for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
            say(f"{SECONDS} s idle, {name}", f"{ticks * 10} ms of the processor, {switches} switches, {resident}")


if __name__ == "__main__":
    main()
