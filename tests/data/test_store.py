import json
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaptune.data import Store, StoreWriter
from gaptune.data.open import open_store
from gaptune.data.store.meta import META
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError

SIDE, CONTEXT = 4, 6
N = 2_500  # three record batches


def contents(n, seed=0):
    """Images, captions by image, tokens by image, labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    captions = [[f"image {row} caption {i} \u00e9" for i in range(1 + row % 3)] for row in range(n)]
    tokens = [rng.integers(0, 2**16, (len(texts), CONTEXT), dtype=np.uint16) for texts in captions]
    return images, captions, tokens, rng.integers(0, 10, n)


def write(out, n=5, *, seed=0, labels=True, splits=("train", "val"), **finish) -> Store:
    with StoreWriter(out, SIDE, CONTEXT) as writer:
        for split in splits:
            for row, (image, texts, ids, label) in enumerate(zip(*contents(n, seed), strict=True)):
                writer.add(split, image, texts, ids, id=f"{row}.jpg", label=int(label) if labels else None)
        return writer.finish(**({"name": "small", "source": {"builder": "test"}} | finish))


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "store", N)


def test_written_rows_are_read_back_over_several_batches(large):
    images, captions, tokens, labels = contents(N)
    split = open_store(large.path).split("train")
    assert len(split) == N
    assert np.array_equal(split.gather(np.arange(N)), images)
    assert np.array_equal(split.texts, np.concatenate(tokens))
    assert np.array_equal(np.diff(split.offsets), [len(texts) for texts in captions])
    assert np.array_equal(split.labels, labels)
    assert split.ids == [f"{row}.jpg" for row in range(N)]
    for row in (0, 1, 1023, 1024, N - 1):
        assert split.captions(row) == captions[row]
        assert np.array_equal(split.texts[split.offsets[row] : split.offsets[row + 1]], tokens[row])


@pytest.mark.whole
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, N - 1), max_size=40))
def test_gather_takes_rows_in_any_order_and_repeatedly(rows, large):
    rows = np.array(rows, dtype=np.int64)
    found = large.split("train").gather(rows)
    assert np.array_equal(found, contents(N)[0][rows])


def test_gather_gives_a_fresh_array(large):
    split = large.split("train")
    split.gather(np.array([3]))[:] = 0
    assert np.array_equal(split.gather(np.array([3]))[0], contents(N)[0][3])


def test_images_and_tokens_lie_in_the_memory_map(tmp_path):
    store = write(tmp_path / "store")
    split = store.split("train")
    mapped = [
        tuple(int(bound, 16) for bound in line.split()[0].split("-"))
        for line in open("/proc/self/maps")  # noqa: SIM115, PTH123
        if line.rstrip().endswith(str(store.path / "train.arrow"))
    ]
    for array in (split._images[0], split.texts):
        address = array.__array_interface__["data"][0]
        assert any(first <= address and address + array.nbytes <= last for first, last in mapped)
        assert not array.flags.writeable


def test_split_without_labels_has_none(tmp_path):
    assert write(tmp_path / "store", labels=False).split("val").labels is None


def test_meta_survives_the_round_trip(tmp_path):
    prompt_tokens = np.array([[7, 8, 0, 0, 0, 0]], dtype=np.uint16)
    made = write(
        tmp_path / "store",
        name="n\u00e4me",
        source={"builder": "test", "skipped": ["a"]},
        classes=["cat", "dog"],
        prompts=["a {}"],
        prompt_tokens=prompt_tokens,
    )
    opened = open_store(tmp_path / "store")
    assert opened.meta == made.meta
    assert opened.meta.classes == ("cat", "dog")
    assert opened.meta.prompts == ("a {}",)
    assert opened.meta.splits["train"].images == 5
    assert opened.meta.splits["train"].captions == 9
    seen = set(np.concatenate(contents(5)[2]).ravel().tolist()) | {7, 8}
    assert opened.meta.vocabulary == tuple(sorted(seen - {0}))


def test_vocabulary_leaves_out_tokens_of_other_splits(tmp_path):
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    with StoreWriter(tmp_path / "store", SIDE, CONTEXT) as writer:
        for split, token in (("train", 11), ("val", 12)):
            writer.add(split, image, ["x"], np.full((1, CONTEXT), token, dtype=np.uint16), id="x")
        assert writer.finish(name="x", source={}).meta.vocabulary == (11,)


def test_same_content_has_the_same_hash(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other", name="other", source={"made": "elsewhere"})
    assert one.meta.content_hash == other.meta.content_hash
    assert one.meta.splits == other.meta.splits


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"n": 4},
        {"labels": False},
        {"splits": ("train", "val", "test")},
        {"classes": ["cat"]},
        {"prompts": ["a {}"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_different_content_has_a_different_hash(change, tmp_path):
    assert write(tmp_path / "one").meta.content_hash != write(tmp_path / "other", **change).meta.content_hash


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_interrupted_build_leaves_no_files(stop, tmp_path):
    image, texts, ids, _ = (part[0] for part in contents(1))

    def build():
        with StoreWriter(tmp_path / "store", SIDE, CONTEXT) as writer:
            for _ in range(1_500):
                writer.add("train", image, texts, ids, id="x")
            assert len(left_in(tmp_path)) == 1
            raise stop

    with pytest.raises(stop):
        build()
    assert left_in(tmp_path) == []


def test_unfinished_build_leaves_no_files(tmp_path):
    with StoreWriter(tmp_path / "store", SIDE, CONTEXT):
        pass
    assert left_in(tmp_path) == []


@pytest.fixture
def file_size_limit():
    """As a full disk: writing fails beyond 64 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_is_reported_in_one_line_and_leaves_no_files(tmp_path, file_size_limit):
    with pytest.raises(UserError, match=r"cannot write .*store: .*File too large"):
        write(tmp_path / "store", 3_000)
    assert left_in(tmp_path) == []


def test_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*Not a directory"):
        write(tmp_path / "file" / "store")


@pytest.mark.whole
def test_killed_build_leaves_only_an_unfinished_folder_that_is_refused(tmp_path):
    script = textwrap.dedent(
        """
        import sys, numpy as np
        from pathlib import Path
        from gaptune.data import StoreWriter
        with StoreWriter(Path(sys.argv[1]), 4, 6) as writer:
            while True:
                for split in ("train", "val"):
                    for _ in range(1100):
                        image, tokens = np.zeros((4, 4, 3), np.uint8), np.zeros((1, 6), np.uint16)
                        writer.add(split, image, ["x"], tokens, id="x")
                print("wrote", flush=True)
        """
    )
    build = subprocess.Popen([sys.executable, "-c", script, tmp_path / "store"], stdout=subprocess.PIPE, text=True)
    assert build.stdout.readline() == "wrote\n"
    build.send_signal(signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert left.name.startswith(f"store.partial-{build.pid}-")
    with pytest.raises(UserError, match=r"an unfinished build: .*partial"):
        open_store(left)
    with pytest.raises(UserError, match="no such store"):
        open_store(tmp_path / "store")
    assert len(write(tmp_path / "store").split("train")) == 5  # and the next build is not in its way


def test_existing_store_is_never_overwritten(tmp_path):
    first = write(tmp_path / "store")
    with pytest.raises(UserError, match="store exists; remove it"):
        write(tmp_path / "store", seed=1)
    first.verify()
    assert left_in(tmp_path) == ["store"]


def test_store_created_meanwhile_by_another_process_is_kept(tmp_path):
    first = write(tmp_path / "elsewhere")

    def build():
        with StoreWriter(tmp_path / "store", SIDE, CONTEXT) as slow:
            image, texts, ids, _ = (part[0] for part in contents(1))
            slow.add("train", image, texts, ids, id="x")
            slow.add("val", image, texts, ids, id="x")
            first.path.rename(tmp_path / "store")
            slow.finish(name="slow", source={})

    with pytest.raises(UserError, match="made by another process"):
        build()
    assert open_store(tmp_path / "store").meta == first.meta
    assert left_in(tmp_path) == ["store"]


def test_missing_store_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such store: .*nowhere \(expected a folder with store.json, or `scenes`\)"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a data store"):
        open_store(tmp_path)
    (tmp_path / "image.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"a file, not a data store: .*image.npy \(`gaptune data features`"):
        open_store(tmp_path / "image.npy")


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_file_is_refused_at_once(keep, tmp_path):
    path = write(tmp_path / "store").path / "val.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"corrupt store: .*val.arrow has \d+ bytes, expected \d+"):
        open_store(tmp_path / "store")


def test_missing_file_is_refused_at_once(tmp_path):
    (write(tmp_path / "store").path / "train.arrow").unlink()
    with pytest.raises(UserError, match=r"corrupt store: .*train.arrow has 0 bytes"):
        open_store(tmp_path / "store")


@settings(max_examples=30, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_verify_finds_any_flipped_bit(where, bit, tmp_path_factory):
    store = write(tmp_path_factory.mktemp("flip") / "store")
    store.verify()
    path = store.path / "train.arrow"
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"corrupt store: .*train.arrow has changed"):
        open_store(store.path).verify()


def named_store(tmp_path):
    classes, prompts = [f"animal {n}" for n in range(10)], ["a {}"]
    tokens = tokenize([f"a {name}" for name in classes], CONTEXT)
    return write(tmp_path / "store", classes=classes, prompts=prompts, prompt_tokens=tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta["vocabulary"].pop(3), "vocabulary is not that of its captions and prompts: 1 tokens differ"),
        (lambda meta: meta.update(vocabulary=sorted({*meta["vocabulary"], 17})), "vocabulary is not"),
        (lambda meta: meta.update(vocabulary=[]), "vocabulary is not"),
        (lambda meta: meta.update(context_length=CONTEXT - 1), "token rows have 12 bytes, but store.json means 10"),
        (lambda meta: meta.update(context_length=2 * CONTEXT), "token rows have 12 bytes, but store.json means 24"),
        (lambda meta: meta.update(image_size=SIDE - 1), "images have .* bytes, but store.json means"),
        (lambda meta: meta["splits"]["val"].update(images=4), "splits.val.images is 4, but there are 5"),
        (lambda meta: meta["splits"]["train"].update(captions=8), "splits.train.captions is 8, but there are 9"),
    ],
)
def test_verify_compares_meta_with_the_content(change, message, tmp_path):
    store = named_store(tmp_path)
    (store.path / META).write_text(edited(store.path / META, change), encoding="utf-8")
    with pytest.raises(UserError, match=rf"corrupt store: .*{message}"):
        open_store(store.path).verify()


def test_store_of_another_size_than_it_says_is_not_trained_on(tmp_path):
    store = named_store(tmp_path)
    change = edited(store.path / META, lambda meta: meta.update(image_size=SIDE + 1))
    (store.path / META).write_text(change, encoding="utf-8")
    with pytest.raises(UserError, match=r"corrupt store: .*images have"):
        open_store(store.path).split("train")


def test_verify_finds_labels_beyond_the_classes(tmp_path):
    with pytest.raises(UserError, match="has labels from 3 to 8, but there are 2 classes"):
        write(tmp_path / "store", classes=["cat", "dog"]).verify()


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after it was written"])
def test_later_captions_belong_to_the_first_image(late, tmp_path):
    def add(writer, row, texts):
        image = np.full((SIDE, SIDE, 3), row, dtype=np.uint8)
        return writer.add("train", image, texts, tokenize(texts, CONTEXT), id=f"{row}")

    def extend(writer):
        more = tokenize(["one more", "first"], CONTEXT)
        writer.extend("train", 3, ["one more", "first"], more, label=7)
        writer.extend("train", 1, ["one more", "a third"], tokenize(["one more", "a third"], CONTEXT))
        writer.extend("train", 3, ["one more"], more[:1], label=8)

    with StoreWriter(tmp_path / "store", SIDE, CONTEXT) as writer:
        for row in range(N):
            assert add(writer, row % 256, ["first"] * (1 + row % 2)) == row
            if row == 5 and not late:
                extend(writer)
        if late:
            extend(writer)
        store = writer.finish(name="x", source={})
    store.verify()
    split = store.split("train")
    assert [split.captions(row) for row in (0, 1, 3)] == [
        ["first"],
        ["first", "first", "one more", "a third"],
        ["first", "first", "one more"],
    ]
    assert np.array_equal(split.texts[split.offsets[3] + 2], tokenize(["one more"], CONTEXT)[0])
    assert (split.label(3), split.label(4)) == (7, None)
    assert len(split) == N
    assert store.meta.splits["train"].captions == N + N // 2 + 3
    assert np.array_equal(split.gather(np.array([3, N - 1]))[:, 0, 0, 0], [3, (N - 1) % 256])
    assert left_in(store.path) == ["store.json", "train.arrow"]


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["classes"].reverse(),
        lambda meta: meta.update(prompts=["no {}"]),
        lambda meta: meta.update(content_hash="0" * 64),
    ],
    ids=["classes", "prompts", "hash"],
)
def test_verify_finds_changed_meta(change, tmp_path):
    store = named_store(tmp_path)
    store.verify()
    (store.path / META).write_text(edited(store.path / META, change), encoding="utf-8")
    with pytest.raises(UserError, match=r"corrupt store: .*store.json has changed"):
        open_store(store.path).verify()


def test_file_that_is_not_arrow_is_refused(tmp_path):
    path = write(tmp_path / "store").path / "train.arrow"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(UserError, match=r"corrupt store: .*train.arrow: Not an Arrow file"):
        open_store(tmp_path / "store").split("train")


def edited(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: "", "corrupt store: .*JSONDecodeError"),
        (lambda path: path.read_text()[:-20], "corrupt store: .*JSONDecodeError"),
        (lambda path: "[]", "corrupt store: .*AttributeError"),
        (lambda path: edited(path, lambda meta: meta.pop("splits")), "corrupt store: .*KeyError: 'splits'"),
        (lambda path: edited(path, lambda meta: meta["splits"]["val"].pop("sha256")), "corrupt store: .*sha256"),
        (lambda path: edited(path, lambda meta: meta.update(format=99)), "has format 99; this gaptune reads up to 3"),
        (lambda path: edited(path, lambda meta: meta["splits"].clear()), "empty data: .* has no images"),
        (lambda path: edited(path, lambda meta: meta.update(image_size=0)), "corrupt store: .*image_size is 0"),
        (lambda path: edited(path, lambda meta: meta.update(context_length=None)), "corrupt store: .*context_length"),
        (lambda path: edited(path, lambda meta: meta.update(features=-1)), "corrupt store: .*features"),
        (lambda path: edited(path, lambda meta: meta.update(name=None)), "corrupt store: .*name"),
        (lambda path: edited(path, lambda meta: meta.update(vocabulary=None)), "corrupt store: "),
        (lambda path: edited(path, lambda meta: meta.update(vocabulary=[70_000])), "corrupt store: .*vocabulary"),
        (lambda path: edited(path, lambda meta: meta.update(classes=[None])), "corrupt store: .*classes"),
        (
            lambda path: edited(path, lambda meta: meta["splits"]["val"].update(images=None)),
            "corrupt store: .*splits.val",
        ),
        (lambda path: edited(path, lambda meta: meta["splits"].update(val=None)), "corrupt store: "),
    ],
    ids=[
        *("empty", "cut", "list", "no-splits", "no-hash", "format", "no-images", "no-pixels", "null-context"),
        *("negative", "null-name", "null-vocabulary", "large-token", "null-class", "null-images", "null-split"),
    ],
)
def test_invalid_meta_is_refused_in_one_line(spoil, message, tmp_path):
    path = write(tmp_path / "store").path / META
    path.write_text(spoil(path), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        open_store(tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_meta_that_is_not_text_is_refused(tmp_path):
    (write(tmp_path / "store").path / META).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"corrupt store: .*UnicodeDecodeError"):
        open_store(tmp_path / "store")


def test_build_without_images_is_refused_and_leaves_no_files(tmp_path):
    with pytest.raises(UserError, match=r"empty data: .* has no images"):
        write(tmp_path / "store", splits=())
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("splits", "lacking"), [(("test",), "no train and no val"), (("val",), "no train images")])
def test_store_for_evaluation_alone_is_whole_but_cannot_be_trained_on(splits, lacking, tmp_path):
    store = write(tmp_path / "store", splits=splits)
    store.verify()
    with pytest.raises(UserError, match=f"cannot be trained on: it has {lacking}.*, only {splits[0]} "):
        store.check_trainable()


def test_unknown_split_is_refused_with_the_nearest_name(tmp_path):
    store = write(tmp_path / "store")
    assert "train" in store
    assert "trian" not in store
    with pytest.raises(UserError, match=r"has no split 'trian' \(did you mean 'train'\?\)"):
        store.split("trian")
