"""``gaptune cluster check`` finds what would fail, or cost money for nothing, before a machine is started."""

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gaptune.deploy import check_cluster
from gaptune.deploy.commands import expanded, simple_commands
from gaptune.deploy.versions import Versions
from gaptune.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
HERE = Versions("3.11", {"gaptune": "0.1.0", "ray": "2.60.0", "torch": "2.15.0"})
VALUES = {"region": "us-east-1", "image": "ami-0123456789abcdef0", "profile": "gaptune"}
OWN = """
cluster_name: gaptune
provider: {type: local, head_ip: 10.0.0.2, worker_ips: [10.0.0.3, 10.0.0.4]}
auth: {ssh_user: ubuntu, ssh_private_key: key}
file_mounts: {~/.ray/auth_token: token}
setup_commands: [pip install gaptune==0.1.0 ray==2.60.0 torch==2.15.0]
"""


def filled_in():
    text = (ROOT / "ray_cluster.yaml").read_text()
    for name, value in VALUES.items():
        text = text.replace(f"&{name} FILL_IN", f"&{name} {value}")
    return text


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory as the file expects it: a wheel, and a token at home."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/gaptune-0.1.0-py3-none-any.whl").touch()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("f" * 64)
    (tmp_path / "token").write_text("f" * 64)
    (tmp_path / "key").touch(mode=0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(text, sweep=None):
    Path("cluster.yaml").write_text(text)
    return [str(one) for one in check_cluster(Path("cluster.yaml"), sweep, HERE)]


def changed(old, new, text=None):
    text = filled_in() if text is None else text
    assert old in text
    return text.replace(old, new)


def test_the_file_is_ready_once_its_values_are_filled_in(place):
    assert problems(filled_in()) == []
    assert problems(OWN) == []


def test_the_file_as_it_comes_names_each_value_to_fill_in_with_its_line(place):
    text = (ROOT / "ray_cluster.yaml").read_text()
    found = problems(text)
    assert len(found) == len(VALUES)
    for line, name in zip(found, VALUES, strict=True):
        number = next(n for n, each in enumerate(text.splitlines(), 1) if f"&{name} " in each)
        assert line.startswith(f"cluster.yaml:{number}: metadata.{name}: 'FILL_IN' is not filled in; write ")


AWS = [
    # values
    ("&region us-east-1", "&region", "no value; write your AWS region"),
    ("&region us-east-1", '&region ""', "metadata.region: no value"),
    ("&region us-east-1", "&region <region>", "'<region>' is not filled in"),
    ("&profile gaptune", "&profile YOUR_PROFILE", "'YOUR_PROFILE' is not filled in"),
    ("&profile gaptune", "&profile PROFILE", "'PROFILE' is not filled in"),
    ("&profile gaptune", "&profile ...", "'...' is not filled in"),
    ("setup_commands: *install", "setup_commands: [sudo mount -t nfs4 NFS_SERVER:/ /mnt]", "is not filled in"),
    ("setup_commands: *install", "setup_commands: [aws s3 cp s3://your-bucket/x .]", "is not filled in"),
    # form
    ("cluster_name: gaptune\n", "", "'cluster_name' is missing"),
    ("max_workers: 8\nup", "max_worker: 8\nup", "unknown entry (did you mean 'max_workers'?)"),
    ("max_workers: 8\nup", "max_workers: many\nup", "max_workers: expected an integer, got 'many'"),
    ("max_workers: 8\nup", "max_workers: -1\nup", "max_workers: -1 is less than the minimum of 0"),
    ("    min_workers: 0\n", "    minimum: 0\n", "available_node_types.gpu.minimum: unknown entry"),
    ("resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8, GPU: 0.5}", "expected an integer, got 0.5"),
    ("setup_commands: *install", "setup_commands: pip install x", "expected a list, got 'pip install x'"),
    # nodes
    ("max_workers: 8\nup", "max_workers: 0\nup", "max_workers: 0: no worker ever starts"),
    ("max_workers: 8\nup", "up", "max_workers is missing"),
    ("    max_workers: 8\n", "    max_workers: 0\n", "max_workers is 0 for each type of worker"),
    ("    min_workers: 0\n", "    min_workers: 9\n", "min_workers 9 is more than max_workers 8"),
    ("    min_workers: 0\n", "    min_workers: 9\n", "max_workers: 8, but the types of nodes need at least 9"),
    ("head_node_type: head", "head_node_type: haed", "'haed' is no type of node"),
    ("{CPU: 0, GPU: 0}", "{CPU: 4, GPU: 0}", "head.resources.CPU: 4: the head would train"),
    ("{CPU: 0, GPU: 0}", "{CPU: 0, GPU: 1}", "head.resources.GPU: 1: the head would train"),
    ("{CPU: 0, GPU: 0}", "{}", "no CPU: the head would get all its cores"),
    ("{CPU: 8, GPU: 1}", "{CPU: 0, GPU: 1}", "gpu.resources.CPU: 0: no trial fits"),
    ("{CPU: 8, GPU: 1}", "{CPU: 64, GPU: 1}", "64, but g6.2xlarge has 8 cores"),
    ("{CPU: 8, GPU: 1}", "{CPU: 8}", "g6.2xlarge has GPUs, and resources has none"),
    ("g6.2xlarge", "m6i.2xlarge", "m6i.2xlarge has no GPU"),
    # images
    ("ray:2.60.0-py311-gpu", "ray:latest-gpu", "rayproject/ray:latest-gpu is not pinned"),
    ("ray:2.60.0-py311-gpu", "ray", "rayproject/ray is not pinned"),
    ("ray:2.60.0-py311-gpu", "ray:nightly-py311-gpu", "is not pinned"),
    ("&image ami-0123456789abcdef0", "&image latest_dlami", "'latest_dlami' is not the id of an image"),
    ("      ImageId: *image\n", "", "no ImageId: Ray would take an image of Ubuntu 18.04"),
    # versions
    ("torch==2.15.0", "torch", "torch has no version; write torch==VERSION"),
    ("torch==2.15.0", "torch==2.*", "torch==2.* has no version"),
    ("torch==2.15.0", "'torch>=2.15'", "torch>=2.15 has no version"),
    ("torch==2.15.0", "torch==2.14.1", "torch 2.14.1, but 2.15.0 here; write 2.15.0"),
    (" torch==2.15.0", "", "no command installs torch in a version; write torch==2.15.0"),
    ("ray:2.60.0-", "ray:2.59.0-", "ray 2.59.0, but 2.60.0 here"),
    ("py311", "py312", "Python 3.12, but 3.11 here; write the tag 2.60.0-py311-gpu"),
    ("ray:2.60.0-py311-gpu", "ray:2.60.0", "no version of Python, but 3.11 here"),
    ("~/wheels/gaptune-0.1.0-py3-none-any.whl", "gaptune==0.2.0", "gaptune 0.2.0, but 0.1.0 here"),
    ("~/wheels/gaptune-0.1.0-py3-none-any.whl", "-e gaptune", "an editable install has no version"),
    ("~/wheels/gaptune-0.1.0-py3-none-any.whl", "./gaptune", "./gaptune is a directory, without a version"),
    ("~/wheels/gaptune-0.1.0-py3-none-any.whl", "git+https://host/gaptune.git", "has no version; add @ and a tag"),
    ("~/wheels/gaptune-0.1.0-py3-none-any.whl", "git+https://host/gaptune@main", "has no version; add @ and a tag"),
    ("python -m pip install", "git clone https://host/gaptune && pip install", "git clone without --branch"),
    ("install: &install ", "install: &install   # none\n    - echo\n  other:", "no command installs gaptune"),
    # files
    ("~/wheels: *wheels", "~/wheels: build", "build does not exist here"),
    ("~/wheels: *wheels", "~/other: *wheels", "is in no directory of file_mounts"),
    ("gaptune-0.1.0-py3", "gaptune-0.1.1-py3", "dist/gaptune-0.1.1-py3-none-any.whl does not exist here"),
    ("auth_token: ~/.ray/auth_token", "auth_token: ~/no_token", "~/no_token does not exist here"),
    ("  ~/.ray/auth_token: ~/.ray/auth_token", "  ~/x: dist", "no token: all who reach the ports could run code"),
    ("  ssh_user: ubuntu", "  ssh_user: ubuntu\n  ssh_private_key: ~/no.pem", "~/no.pem does not exist here"),
    # commands
    ("python -m pip", "cd $GAPTUNE_REPOSITORY && pip", "$GAPTUNE_REPOSITORY is expanded on the remote machine"),
    ("python -m pip", 'cd "${WORK}" && pip', "$WORK is expanded on the remote machine"),
    ("python -m pip", 'echo "it\'s $WORK" && pip', "$WORK is expanded on the remote machine"),
    ("python -m pip", "echo 'open && pip", "a quotation mark is not closed"),
    ("ray start --head", "ray start", "no `ray start --head`"),
    (" --autoscaling-config=~/ray_bootstrap_config.yaml", "", "no --autoscaling-config"),
    ("$RAY_HEAD_IP:6379", "$RAY_HEAD_IP:6380", "the workers join port 6380, and the head listens on 6379"),
    ("--address=$RAY_HEAD_IP:6379", "--address=auto", "no `ray start --address=$RAY_HEAD_IP:6379`"),
]


@pytest.mark.parametrize(("old", "new", "said"), AWS, ids=[said for _, _, said in AWS])
def test_what_is_missing_is_one_line_with_file_and_line(place, old, new, said):
    found = problems(changed(old, new))
    assert any(said in line for line in found), found
    assert all(re.match(r"cluster\.yaml:\d+: \S", line) and "\n" not in line for line in found)


OWN_MACHINES = [
    ("worker_ips: [10.0.0.3, 10.0.0.4]", "worker_ips: [127.0.0.2]", "worker_ips.0: 127.0.0.2 is this machine"),
    ("worker_ips: [10.0.0.3, 10.0.0.4]", "worker_ips: ['::1']", "::1 is this machine"),
    ("head_ip: 10.0.0.2", "head_ip: localhost", "head_ip: localhost is this machine"),
    ("10.0.0.4", "10.0.0.2", "worker_ips.1: 10.0.0.2 is head_ip, too"),
    ("10.0.0.4", "10.0.0.3", "worker_ips.1: 10.0.0.3 is worker_ips.0, too"),
    ("worker_ips: [10.0.0.3, 10.0.0.4]", "worker_ips: []", "no worker_ips"),
    ("head_ip: 10.0.0.2, ", "", "no head_ip"),
    ("10.0.0.2", "HEAD_ADDRESS", "'HEAD_ADDRESS' is not filled in"),
    ("ssh_user: ubuntu, ", "", "no ssh_user"),
    (", ssh_private_key: key", "", "no ssh_private_key, and none in ~/.ssh"),
    ("file_mounts: {~/.ray/auth_token: token}", "", "no token"),
    ("auth:", "max_workers: 0\nauth:", "max_workers: 0: no worker ever starts; write 2"),
    ("auth:", "available_node_types: {a: {resources: {}, node_config: {}}}\nauth:", "have no types of nodes"),
    ("ray==2.60.0 ", "", "no command installs ray in a version"),
]


@pytest.mark.parametrize(("old", "new", "said"), OWN_MACHINES, ids=[said for _, _, said in OWN_MACHINES])
def test_own_machines_need_addresses_and_a_login(place, old, new, said):
    found = problems(changed(old, new, OWN))
    assert any(said in line for line in found), found


def test_own_machines_need_the_first_autoscaler(place, monkeypatch):
    monkeypatch.delenv("RAY_UP_enable_autoscaler_v2")
    (line,) = problems(OWN)
    assert line.endswith("never starts own machines; run: export RAY_UP_enable_autoscaler_v2=0")


def test_a_key_that_others_may_read_is_found(place):
    Path("key").chmod(0o644)
    (line,) = problems(OWN)
    assert "ssh refuses such a key; run: chmod 600 key" in line


def test_an_image_of_ones_own_may_hold_everything(place):
    text = changed("rayproject/ray:2.60.0-py311-gpu", "registry/gaptune:0.1.0")
    assert problems(changed("setup_commands: *install", "setup_commands: []", text)) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("resources: {cpu: 16}", "each trial needs 16 CPU and 1 GPU, and no type of worker"),
        ("resources: {gpu: 4, cpu: 4}", "each trial needs 4 CPU and 4 GPU, and no type of worker"),
        ("data: {store: coco-store}", "data.store: coco-store is a relative path"),
    ],
)
def test_a_sweep_that_the_cluster_cannot_run_is_found(place, more, said):
    goals = "objectives:\n- {metric: retrieval/mean_r1, reference: 0.0, ideal: 0.6}\n"
    goals += "- {metric: uniformity/w2, reference: -1.414, ideal: -0.5}\n"
    Path("sweep.yaml").write_text(f"{goals}{more}\n")
    (line,) = problems(filled_in(), Path("sweep.yaml"))
    assert line.startswith("sweep.yaml:4: ")
    assert said in line
    Path("sweep.yaml").write_text(f"{goals}storage: s3://bucket/sweeps\n")
    assert problems(filled_in(), Path("sweep.yaml")) == []
    text = changed("      IamInstanceProfile: {Name: *profile}\n", "")
    (line,) = problems(text, Path("sweep.yaml"))
    assert "no IamInstanceProfile: this worker cannot read s3://" in line


@pytest.mark.parametrize(
    "command",
    [
        "for x in a b; do echo $x; done",
        "export A=1 && echo $A ${B:-none} $1 $? $$ $(date) '$C' \\$D",
        "cd $HOME && ls ~/x > $TMPDIR/y",
        'A=2 make; echo "$A"',
        "read -r line < file && echo $line",
    ],
)
def test_what_a_remote_shell_knows_is_not_reported(place, command):
    text = yaml.safe_load(filled_in())
    text["setup_commands"].append(command)
    assert problems(yaml.safe_dump(text)) == []


def test_a_variable_in_the_remote_profile_is_known_later(place):
    text = yaml.safe_load(filled_in())
    text["setup_commands"] += ["echo 'export WORK=/mnt' >> ~/.bashrc", "ls $WORK"]
    assert problems(yaml.safe_dump(text)) == []


def test_the_command_prints_the_problems_and_exits_with_2(place, gaptune, monkeypatch):
    monkeypatch.setattr(Versions, "installed", staticmethod(lambda: HERE))
    Path("cluster.yaml").write_text(filled_in())
    assert gaptune("cluster", "check", "cluster.yaml") == (0, "cluster.yaml: ready\n", "")
    Path("cluster.yaml").write_text(changed("torch==2.15.0", "torch"))
    code, out, errors = gaptune("cluster", "check", "cluster.yaml")
    assert code == 2
    assert out.count("\n") == 1
    assert errors == "gaptune: 1 problem in cluster.yaml\n"


SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 99) | st.text(max_size=8) | st.sampled_from(["$X", "pip install a"])
)
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=2)


def places_in(value, loc=()):
    yield loc
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places_in(one, (*loc, key))


@pytest.mark.parametrize("text", [filled_in(), OWN], ids=["aws", "local"])
@given(data=st.data())
def test_no_file_however_odd_ends_in_a_traceback(tmp_path_factory, text, data):
    content = yaml.safe_load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        *outer, last = data.draw(st.sampled_from([loc for loc in places_in(content) if loc]))
        at = content
        for key in outer:
            at = at[key]
        if data.draw(st.booleans()):
            at[last] = data.draw(ANYTHING)
        else:
            del at[last]
        if not content:
            break
    path = tmp_path_factory.getbasetemp() / f"odd-{os.getpid()}.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True))
    try:
        found = check_cluster(path, here=HERE)
    except UserError:
        return
    assert all("\n" not in str(one) and one.file == path and one.line for one in found)


@given(st.text(alphabet="$ab{}'\"\\ ;&|()=:-", max_size=20))
def test_any_text_can_be_read_as_a_command(text):
    assert all(name for name in expanded(text))
    assert simple_commands(text) is None or all(simple_commands(text))
