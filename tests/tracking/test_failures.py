"""MLflow when something goes wrong: lost requests, deleted runs, stores that cannot work, servers that hang."""

import shutil
import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from requests.exceptions import ConnectTimeout
from support import Stage, free_port

from gaptune.cli import cli
from gaptune.engine.publish import synchronize
from gaptune.errors import UserError
from gaptune.ledger import State, load
from gaptune.report import REPORT_FILE
from gaptune.tracking import Mirror, Tracker, UnreachableError, check_store, default_uri, limited
from gaptune.tracking import mirror as mirror_module
from gaptune.tracking import runs as runs_module
from gaptune.tracking.links import RUNS_FILE
from gaptune.tracking.write import Tables

pytestmark = pytest.mark.usefixtures("mlflow_tables")

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def results(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def small_sweep(folder, *, close=None):
    """Two complete trials, one failed, one under way."""
    stage = Stage(folder, num_candidates=4)
    stage.record.header = replace(stage.record.header, at=0.5)  # MLflow takes 0 for now
    for number in range(4):
        stage.orchestrator.next_trial()
        stage.orchestrator.started(number, "here")
    for number in range(2):
        for epoch in (1, 2):
            stage.orchestrator.reported(
                number, epoch, epoch, {"retrieval/mean_r1": 0.1 * (number + 1), "geometry/gap": epoch - 0.1 * number}
            )
    stage.orchestrator.failed(2, "out of memory: x")
    stage.orchestrator.reported(3, 1, 1, {"retrieval/mean_r1": 0.2, "geometry/gap": 0.3})
    if close is not None:
        stage.orchestrator.close(close)
    return stage


def write_all(mirror, record, folder):
    """What a sweep or ``gaptune sync`` sends, from the first request to the last."""
    said = mirror.write(record)
    mirror.add_files(record)
    (folder / "front.png").write_bytes(b"a picture")
    mirror.log_results(record, {"sweep/front": 2.0}, {0: 1, 1: 2}, "how it ended", [folder / "front.png"])
    return said


def content(uri):
    """All that MLflow has, without the ids that differ from store to store."""
    client = MlflowClient(tracking_uri=uri)
    experiments = client.search_experiments(ViewType.ALL)
    found = client.search_runs([one.experiment_id for one in experiments], run_view_type=ViewType.ALL)
    names = {run.info.run_id: run.info.run_name for run in found}
    told = {}
    for run in found:
        tags = {key: names.get(value, value) for key, value in run.data.tags.items()}
        history = {
            metric: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, metric))
            for metric in run.data.metrics
        }
        info = run.info
        place = info.artifact_uri.replace(info.run_id, "ID").rsplit("/mlartifacts/")[-1]
        key = f"{info.run_name} {info.run_id}" if info.run_name in told else info.run_name  # none may be there twice
        told[key] = {
            "info": (info.status, info.start_time, info.end_time, info.lifecycle_stage, info.user_id, place),
            "tags": tags,
            "params": run.data.params,
            "last": run.data.metrics,
            "history": history,
            "data": [one.dataset.to_dictionary() for one in run.inputs.dataset_inputs],
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
    return {one.name: one.lifecycle_stage for one in experiments}, told


class Failing:
    """MLflow's own client, of which one request is lost: before it arrives, or its answer on the way back."""

    def __init__(self, client, at=None, *, late=False):
        self._client, self._at, self._late, self.asked = client, at, late, 0

    def __getattr__(self, name):
        real = getattr(self._client, name)
        if not callable(real):
            return real

        def call(*args, **kwargs):
            self.asked += 1
            fails = self.asked == self._at
            if fails and not self._late:
                raise MlflowException(f"API request failed: {name}") from ConnectTimeout("lost")
            answer = real(*args, **kwargs)
            if fails:
                raise MlflowException(f"API request failed: {name}") from ConnectTimeout("lost")
            return answer

        return call


@pytest.mark.whole
@pytest.mark.parametrize("tables", [True, False], ids=["tables", "requests"])
def test_any_lost_request_is_repaired_by_the_next_write(tmp_path, empty_store, monkeypatch, tables):
    """A running sweep that tries again, and ``sync`` in a new process, for every request and both ways to lose it."""
    monkeypatch.setattr(Tables, "fits", staticmethod(lambda path: tables))
    opened = mirror_module.open_client
    stage = small_sweep(tmp_path / "s", close="interrupted")

    def attempt(name, at=None, *, late=False, healed_by_itself=False):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        uri, clients = default_uri(folder), []

        def open_failing(uri):
            clients.append(Failing(opened(uri), at if not clients else None, late=late))
            return clients[0]

        with monkeypatch.context() as patch:
            patch.setattr(mirror_module, "open_client", open_failing)
            mirror = Mirror(uri, folder)
            if at is not None:
                with pytest.raises(UnreachableError):
                    write_all(mirror, stage.record, folder)
            if at is not None and not healed_by_itself:
                mirror = Mirror(uri, folder)
                patch.setattr(mirror_module, "open_client", opened)
            write_all(mirror, stage.record, folder)
        return content(uri), clients[0].asked

    undisturbed, requests = attempt("undisturbed")
    assert set(undisturbed[1]) == {"s", *(f"{n:04d} {t.method} of s" for n, t in stage.record.trials.items())}
    for at in range(1, requests + 1):
        found, _ = attempt(f"at{at}", at, late=at % 2 == 0, healed_by_itself=at % 3 == 0)
        assert found == undisturbed, f"request {at} of {requests}"
    for at in range(1, requests + 1, 5):
        assert attempt(f"too{at}", at, late=at % 2 == 1, healed_by_itself=at % 2 == 0)[0] == undisturbed


def test_rows_of_a_sqlite_store_are_what_mlflows_client_writes(tmp_path, empty_store, monkeypatch):
    stage = small_sweep(tmp_path / "s")
    told = []
    for fits in (True, False):
        folder = tmp_path / str(fits)
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        assert Tables.fits(folder / "mlflow.db"), "MLflow's tables have changed: it is written to by its client, slowly"
        monkeypatch.setattr(Tables, "fits", staticmethod(lambda path, fits=fits: fits))
        mirror = Mirror(default_uri(folder), folder)
        write_all(mirror, stage.record, folder)
        stage.record.paused = "interrupted"
        write_all(mirror, stage.record, folder)
        stage.record.paused = None
        told.append(content(default_uri(folder)))
        monkeypatch.undo()
    assert told[0] == told[1]


def delete_experiment(client, uri):
    client.delete_experiment(client.get_experiment_by_name("gaptune").experiment_id)


def delete_runs(client, uri):
    for run in client.search_runs([client.get_experiment_by_name("gaptune").experiment_id]):
        client.delete_run(run.info.run_id)


def delete_a_trial(client, uri):
    experiment = client.get_experiment_by_name("gaptune").experiment_id
    (run,) = client.search_runs([experiment], "tags.`gaptune.trial` = '1'")
    client.delete_run(run.info.run_id)


def delete_for_good(client, uri):
    from mlflow.cli import gc

    delete_experiment(client, uri)
    done = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
    assert done.exit_code == 0, done.output


def leave_running(client, uri):
    for run in client.search_runs([client.get_experiment_by_name("gaptune").experiment_id]):
        client.update_run(run.info.run_id, status="RUNNING")


@pytest.mark.whole
@pytest.mark.parametrize("while_it_runs", [True, False], ids=["running", "sync"])
@pytest.mark.parametrize("tables", [True, False], ids=["tables", "requests"])
@pytest.mark.parametrize("damage", [delete_experiment, delete_runs, delete_a_trial, delete_for_good, leave_running])
def test_deleted_runs_are_restored_or_created_again_and_reported_once(
    results, monkeypatch, damage, tables, while_it_runs
):
    if damage in (leave_running, delete_a_trial) and while_it_runs:
        pytest.skip("a driver looks again at what it has written only when a request fails; sync does")
    monkeypatch.setattr(Tables, "fits", staticmethod(lambda path: tables))
    uri = default_uri(results)
    stage = small_sweep(results / "s")
    mirror = Mirror(uri, results)
    assert write_all(mirror, stage.record, results) == []
    before = content(uri)
    damage(MlflowClient(tracking_uri=uri), uri)
    stage.record.paused = "interrupted"
    undisturbed = before[0], {**before[1]}
    said = write_all(mirror if while_it_runs else Mirror(uri, results), stage.record, results)
    again = content(uri)
    assert again[0] == undisturbed[0]
    for name, run in again[1].items():
        was = undisturbed[1][name]
        assert {**run, "info": None} == {**was, "info": None}
        assert run["info"][0] == ("KILLED" if was["info"][0] == "RUNNING" else was["info"][0])
        assert run["info"][3] == "active"
    if damage is not leave_running and (damage is not delete_for_good or while_it_runs):
        assert said
        assert len(said) <= 3
        assert all("had been deleted in MLflow" in line for line in said)
    assert mirror.write(stage.record) == []


def test_an_experiment_that_cannot_be_restored_gets_one_of_a_similar_name(results, monkeypatch):
    uri = default_uri(results)
    stage = small_sweep(results / "s")
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(client.create_experiment("gaptune"))

    def refuse(self, experiment_id):
        raise MlflowException("not here", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "restore_experiment", refuse)
    Mirror(uri, results).write(stage.record)
    Mirror(uri, results).write(stage.record)
    assert content(uri)[0] == {"Default": "active", "gaptune": "deleted", "gaptune-2": "active"}
    assert len(content(uri)[1]) == 5


def test_runs_come_in_pages_and_the_front_is_moved_from_some_to_others(results, monkeypatch):
    monkeypatch.setattr(runs_module, "_PAGE", 2)
    uri = default_uri(results)
    stage = small_sweep(results / "s", close="interrupted")
    for ranks in ({0: 1, 1: 2, 3: 3}, {1: 1}, {0: 1, 1: 2}):
        mirror = Mirror(uri, results)
        mirror.write(stage.record)
        mirror.log_results(stage.record, {}, ranks, "note", [])
        tags = [run["tags"] for run in content(uri)[1].values() if "gaptune.trial" in run["tags"]]
        found = {int(one["gaptune.trial"]): int(one["front_rank"]) for one in tags if one.get("front") == "true"}
        assert found == ranks


def test_a_store_that_vanishes_while_it_is_open_is_noticed(results):
    stage = small_sweep(results / "s")
    mirror = Mirror(None, results)
    mirror.write(stage.record)
    (results / "mlflow.db").unlink()
    with pytest.raises(UserError, match="removed or replaced"):
        mirror.write(stage.record, [3])


@pytest.mark.whole
def test_store_does_not_exist_if_its_creation_is_killed(tmp_path, monkeypatch):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    stage = small_sweep(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "_initialize_store_state", lambda self: 1 / 0)
        with pytest.raises(UserError):
            Mirror(None, tmp_path).write(stage.record)
    assert not (tmp_path / "mlflow.db").exists()
    Mirror(None, tmp_path).write(stage.record)
    assert [path.name for path in tmp_path.glob(".mlflow*")] == []


# What can never work, and what does not answer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        code, body = self.server.answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A server that gives one answer to everything; its answer can be changed."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def tree(folder):
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def bad_stores(folder, empty_store):
    """URIs of stores that can never work, and a word of what should be said."""
    (folder / "bad.db").write_text("not a database, but long enough to be taken for one")
    (folder / "folder.db").mkdir()
    shutil.copy(empty_store, folder / "old.db")
    for name, statement in (
        ("old.db", "UPDATE alembic_version SET version_num = 'bda7b8c39065'"),
        ("other.db", "CREATE TABLE x (y)"),
    ):
        with closing(sqlite3.connect(folder / name)) as database, database:
            database.execute(statement)
    return {
        "": "is empty",
        "localhost:5000": "did you mean http://localhost:5000?",
        "127.0.0.1:5000": "did you mean http://127.0.0.1:5000?",
        "htp://x:1": "did you mean 'http'?",
        "foo://x": "unknown kind of store",
        "databricks": "databricks auth login",
        "databricks-uc": "models, not runs",
        f"file://{folder}/mlruns": "no longer writes to folders",
        "./mlruns": "no longer writes to folders",
        f"sqlite:///{folder}/bad.db": "file is not a database",
        f"sqlite:///{folder}/folder.db": "not a file",
        f"sqlite:///{folder}/old.db": "mlflow db upgrade",
        f"sqlite:///{folder}/other.db": "database of another program",
        f"sqlite:///{folder}/bad.db/mlflow.db": "is not writable",
        "sqlite://": "not a file",
        "postgresql://user:secret@127.0.0.1:1/x": "ModuleNotFoundError",
        "http://[": "Invalid IPv6 URL",
    }


def test_unusable_store_is_refused_at_once_and_nothing_is_created(tmp_path, empty_store):
    bad = bad_stores(tmp_path, empty_store)
    before = tree(tmp_path)
    for uri, words in bad.items():
        with pytest.raises(UserError) as told:
            check_store(uri, tmp_path)
        assert words in str(told.value), uri
        assert "\n" not in str(told.value)
        assert "secret" not in str(told.value)
    assert check_store(None, tmp_path / "none" / "yet").answers
    assert tree(tmp_path) == before


@pytest.mark.whole
def test_sync_ends_in_one_line_for_a_store_that_it_cannot_use(tmp_path, empty_store, server):
    small_sweep(tmp_path / "s", close="interrupted").ledger.close()
    server.answer = 404, b"<html>"
    bad = bad_stores(tmp_path, empty_store)
    for uri in ["localhost:5000", *(uri for uri in bad if uri.startswith("sqlite")), address(server), DEAD]:
        with pytest.raises(UserError) as told:
            synchronize(tmp_path / "s", tmp_path, uri)
        assert "\n" not in str(told.value)
        assert (tmp_path / "s" / REPORT_FILE).exists()
        (tmp_path / "s" / REPORT_FILE).unlink()


@pytest.mark.parametrize(
    ("answer", "passing"),
    [
        ((404, b"<html>"), False),
        ((200, b"<html>"), False),
        ((200, b"{}"), False),
        ((401, b"who?"), False),
        ((403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'), False),
        ((429, b""), True),
        ((500, b""), True),
        ((503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}'), True),
        ((520, b"the origin of a proxy is down"), True),
    ],
)
def test_unreachable_server_and_unusable_server_are_distinguished(tmp_path, server, answer, passing):
    server.answer = answer
    if passing:
        state = check_store(address(server), tmp_path)
        assert not state.answers
        assert "is unreachable" in state.why
    else:
        with pytest.raises(UserError, match="credentials right"):
            check_store(address(server), tmp_path)


def test_a_locked_store_and_a_server_that_hangs_do_not_answer_within_a_few_seconds(results, monkeypatch):
    monkeypatch.setattr("gaptune.tracking.store.ASK_S", 1.0)
    with closing(sqlite3.connect(results / "mlflow.db")) as database, socket.create_server(("127.0.0.1", 0)) as hangs:
        database.execute("BEGIN EXCLUSIVE")
        for uri in (None, DEAD, f"http://127.0.0.1:{hangs.getsockname()[1]}"):
            started = time.monotonic()
            assert not check_store(uri, results).answers
            assert time.monotonic() - started < 10


def test_a_store_knows_the_highest_trial_of_a_sweep_deleted_or_not(results, monkeypatch):
    stage = small_sweep(results / "s")
    mirror = Mirror(None, results)
    mirror.write(stage.record)
    client = MlflowClient(tracking_uri=default_uri(results))
    client.delete_run(mirror.runs()["trials"][3])
    sweep = stage.record.header.id
    assert check_store(None, results, sweep).highest == 3
    assert check_store(None, results, "f" * 32).highest is None
    monkeypatch.setattr("gaptune.tracking.store.sqlite_path", lambda uri: None)  # as a server is asked
    monkeypatch.setattr("gaptune.tracking.store.open_client", lambda uri: client)
    assert check_store(None, results, sweep).highest == 3


def test_a_relative_store_is_the_same_one_from_every_folder(results, monkeypatch):
    monkeypatch.chdir(results)
    assert check_store("sqlite:///mlflow.db", results).uri == default_uri(results)


# The end of a sweep


def test_hanging_server_delays_the_end_for_a_limited_time(tmp_path):
    stage = small_sweep(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        said = []
        uri = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        tracker = Tracker(Mirror(uri, tmp_path), stage.record, stage.heard, said.append)
        started = time.monotonic()
        assert not tracker.close(patience=1.0)
        assert time.monotonic() - started < 3
    with pytest.raises(UnreachableError):
        limited(0.1, lambda: time.sleep(3))


def test_unusable_store_does_not_delay_the_end(tmp_path):
    said = []
    stage = small_sweep(tmp_path / "s")
    (tmp_path / "mlflow.db").mkdir()
    tracker = Tracker(Mirror(None, tmp_path), stage.record, stage.heard, said.append)
    started = time.monotonic()
    assert not tracker.close(patience=60.0)
    assert time.monotonic() - started < 30
    (line,) = said
    assert "is not a file" in line
    assert "Trials continue" in line


@pytest.mark.parametrize(
    "broken", ["front.png", "results.parquet", REPORT_FILE, RUNS_FILE, "sample.npz", "mlflow.json"]
)
def test_each_result_is_written_whatever_happens_to_the_others(results, broken):
    folder = results / "x$\\frac$"
    stage = small_sweep(folder)
    for number, gap in ((3, 0.1),):
        stage.orchestrator.reported(number, 2, 2, {"retrieval/mean_r1": 0.2, "geometry/gap": gap})
    stage.record.header = replace(stage.record.header, name=folder.name)
    stage.orchestrator.close(None)
    stage.ledger.close()
    expected = {"front.png", "results.parquet", REPORT_FILE, RUNS_FILE} - {broken}
    if broken == "sample.npz":
        for number in range(4):
            place = folder / "trials" / f"{number:04d}"
            place.mkdir(parents=True)
            (place / broken).write_bytes(b"PK\x03\x04 and then nothing")
    elif broken == "mlflow.json":
        (folder / broken).write_text('{"experiment": 1')
        assert CliRunner().invoke(cli, ["report", folder.name, "--results", str(results)]).exit_code == 0
    else:
        (folder / broken).mkdir()
    said = []
    assert synchronize(folder, results, None, said.append) == 4
    assert {name for name in expected if (folder / name).is_file()} == expected
    wrong = [line for line in said if "could not be written" in line]
    assert len(wrong) == (folder / broken).is_dir()
    assert all(broken in line and "'x$\\frac$'" in line for line in wrong)
    assert load(folder).count(State.COMPLETE) == 3


@pytest.mark.parametrize("name", ["a/b", "a:b", "", " ", ".."])
def test_a_name_that_the_registry_does_not_take_is_refused_before_anything_is_exported(tmp_path, name):
    done = CliRunner().invoke(cli, ["model", "register", "s", "0", "--as", name, "--results", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "registered model" in str(done.exception)


def test_a_sweep_says_what_brings_mlflow_up_to_date(tmp_path, monkeypatch):
    from gaptune.engine.publish import _sync_command

    elsewhere = f"gaptune sync 'a b' --results {tmp_path}"
    assert _sync_command(tmp_path / "a b", Mirror(None, tmp_path)) == elsewhere
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    assert _sync_command(tmp_path / "a b", Mirror(None, tmp_path)) == "gaptune sync 'a b'"
    other = f"http://127.0.0.1:{free_port()}"
    assert _sync_command(tmp_path / "s", Mirror(other, tmp_path)) == f"gaptune sync s --tracking-uri {other}"
