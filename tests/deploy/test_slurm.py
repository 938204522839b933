"""The Slurm script on a real Slurm of two nodes: a job of higher priority preempts it, and it resumes the sweep."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import why_not
from support import free_port, write_yaml

from gaptune.ledger import State, load, read_events

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy/slurm/sweep.sbatch"
HOSTS = Path("/etc/hosts")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=2000
PartitionName=low Nodes=n1,n2 Default=YES State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=n1,n2 State=UP PriorityTier=10
"""

MISSING = why_not("slurmctld", "slurmd", "munged", "sbatch", packages="slurm-wlm, munge")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


@pytest.fixture
def slurm(tmp_path_factory):
    """The environment of a Slurm with two nodes, n1 and n2."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host = os.uname().nodename.partition(".")[0]
    ports = [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=ports))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    files = [f"--{name}={folder}/munge.{ending}" for name, ending in (("key-file", "key"), ("pid-file", "pid"))]
    files += [f"--socket={folder}/munge.sock", f"--seed-file={folder}/seed", f"--log-file={folder}/munge.log"]
    daemons = [["munged", "--foreground", "--force", *files], ["slurmctld", "-D"]]
    daemons += [["slurmd", "-D", "-N", node] for node in ("n1", "n2")]
    hosts, running = HOSTS.read_text(), []
    try:
        HOSTS.write_text(f"{hosts.rstrip()}\n127.0.0.1 n1 n2\n")
        for daemon in daemons:
            with (folder / f"{len(running)}.log").open("w") as log:
                running.append(subprocess.Popen(daemon, env=env, stdout=log, stderr=log, start_new_session=True))
            time.sleep(2)
        yield env
        subprocess.run(["scancel", "--user=root"], env=env)
        wait_for(lambda: not told(env, "squeue", "--noheader"), 90)
    finally:
        HOSTS.write_text(hosts)
        for daemon in reversed(running):
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()


def told(env, *command):
    return subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, check=True).stdout


def wait_for(what, seconds=400):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(1)


def count(folder, name):
    if not (folder / "ledger.jsonl").exists():
        return 0
    return sum(event["event"] == name for event in read_events(folder)[0])


@pytest.fixture
def words(tmp_path, small_features):
    """What to submit, without the name of the sweep."""
    space, config = write_yaml(tmp_path, small_features, epochs=800, trials=4)
    return ["--nodes=2", "--cpus-per-task=1", f"--chdir={tmp_path}", SCRIPT, space, "--config", config]


def assert_complete(folder):
    assert [trial.state for trial in load(folder).trials.values()] == [State.COMPLETE] * 4


def test_a_preempted_job_is_paused_and_queued_and_resumes_the_sweep(slurm, tmp_path, words):
    unnamed = told(slurm, "sbatch", "--parsable", *words).strip()
    wait_for(lambda: (tmp_path / f"gaptune-{unnamed}.log").exists())
    wait_for(lambda: "give the sweep a --name" in (tmp_path / f"gaptune-{unnamed}.log").read_text())
    words += ["--name", "s", "--results", tmp_path / "results"]
    subprocess.run(["sbatch", "--test-only", *map(str, words)], env=slurm, check=True)
    job = told(slurm, "sbatch", "--parsable", *words).strip()
    folder = tmp_path / "results/s"
    wait_for(lambda: count(folder, "report"))
    told(slurm, "sbatch", "--partition=high", "--nodes=2", "--cpus-per-task=4", f"--chdir={tmp_path}", "--wrap=sleep 5")
    wait_for(lambda: count(folder, "pause"))
    wait_for(lambda: not told(slurm, "squeue", "--noheader", "--jobs", job), 900)
    assert count(folder, "session") >= 2
    assert_complete(folder)


def test_a_canceled_job_is_paused_and_not_queued_and_the_same_command_resumes_the_sweep(slurm, tmp_path, words):
    words += ["--name", "s", "--results", tmp_path / "results"]
    folder = tmp_path / "results/s"
    job = told(slurm, "sbatch", "--parsable", *words).strip()
    wait_for(lambda: count(folder, "report"))
    told(slurm, "scancel", job)
    wait_for(lambda: not told(slurm, "squeue", "--noheader"), 120)
    assert count(folder, "pause") == 1
    again = told(slurm, "sbatch", "--parsable", *words).strip()
    wait_for(lambda: not told(slurm, "squeue", "--noheader", "--jobs", again), 900)
    assert count(folder, "session") == 2
    assert_complete(folder)


def test_a_job_at_its_time_limit_is_paused_and_queued(slurm, tmp_path, words):
    """Options before the script replace those in it: two minutes of warning in place of five."""
    words = ["--time=4", "--signal=B:TERM@120", *words, "--name", "s", "--results", tmp_path / "results"]
    folder = tmp_path / "results/s"
    job = told(slurm, "sbatch", "--parsable", *words).strip()
    wait_for(lambda: count(folder, "pause"))
    wait_for(lambda: told(slurm, "squeue", "--noheader", "--jobs", job, "--format=%T").strip() == "PENDING", 120)
    assert "the job is queued again" in (tmp_path / f"gaptune-{job}.log").read_text()
