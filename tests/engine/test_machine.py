"""What this machine lets a process use, from files and variables as batch systems and containers make them."""

import os
from pathlib import Path

from gaptune.engine import machine
from gaptune.engine.machine import available_cores, cgroup_quota, ray_folders


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_the_smallest_quota_of_a_group_and_those_above_counts(tmp_path):
    group(tmp_path / "slurm", cpu__max="150000 100000\n")
    group(tmp_path / "slurm" / "job", cpu__max="max 100000\n")
    assert cgroup_quota("0::/slurm/job\n", tmp_path) == 1.5
    assert cgroup_quota("0::/\n", tmp_path) is None


def test_quotas_of_version_1_are_read_too(tmp_path):
    group(tmp_path / "cpu,cpuacct" / "docker", **{"cpu__cfs_quota_us": "200000\n", "cpu__cfs_period_us": "100000\n"})
    group(tmp_path / "cpu,cpuacct", **{"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"})
    own = "12:memory:/docker\n3:cpu,cpuacct:/docker\n"
    assert cgroup_quota(own, tmp_path) == 2.0
    assert cgroup_quota("12:memory:/docker\n", tmp_path) is None


def test_a_container_sees_its_own_group_at_the_root_under_another_name(tmp_path):
    group(tmp_path / "cpu", **{"cpu__cfs_quota_us": "50000\n", "cpu__cfs_period_us": "100000\n"})
    assert cgroup_quota("3:cpu:/docker/0123\n", tmp_path) == 0.5


def test_cores_are_those_that_the_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    assert available_cores() == 4
    (tmp_path / "own").write_text("0::/\n")
    for quota, cores in (("350000 100000", 3), ("50000 100000", 1), ("900000 100000", 4)):
        group(tmp_path, cpu__max=quota)
        assert available_cores() == cores


def test_a_folder_that_is_too_long_for_sockets_gets_a_short_one_instead(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("slurm_jobdir_12345" * 4)
    long.mkdir()
    for wanted in (long, tmp_path / "missing"):
        monkeypatch.setenv("TMPDIR", str(wanted))
        with ray_folders() as chosen:
            assert os.access(chosen["_temp_dir"], os.W_OK)
            assert len(chosen["_temp_dir"]) < 40
        assert not Path(chosen["_temp_dir"]).exists()
    monkeypatch.setenv("TMPDIR", "/tmp")
    with ray_folders() as chosen:
        assert "_temp_dir" not in chosen


def test_shared_memory_that_is_too_small_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(machine, "OBJECT_STORE", 2**62)
    with ray_folders() as chosen:
        assert os.access(chosen["_plasma_directory"], os.W_OK)
