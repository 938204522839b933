"""Pairs written in any form that people keep them in, split in any usual way, make one and the same store."""

import csv
import hashlib
import io
import itertools
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gaptune.data.build import build
from gaptune.data.sources import SOURCES, Coco, Columns, WebDataset
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError

SIZE, CONTEXT = 16, 12
SPLITS = {
    "train": ["train", "Training", "TRAIN"],
    "val": ["val", "valid", "validation", "dev", "Validation"],
    "test": ["test", "testing", "TEST"],
}
_fresh = itertools.count()

words = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="\ufeff")
    | st.sampled_from(list("\"',;#\\{}|%é猫")),
    min_size=1,
    max_size=12,
)
captions = st.lists(words, min_size=1, max_size=5).map(" ".join) | st.sampled_from(
    ["NA", "null", "NaN", "None", "true", "1.0", "7", '"quoted"', 'six " inches', "a, b", "=1+1", "-", "'"]
)


def picture(seed):
    """A square of the store's size, so that its pixels are stored as they are."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


def png(seed):
    out = io.BytesIO()
    picture(seed).save(out, "PNG")
    return out.getvalue()


@st.composite
def data_sets(draw):
    """Pairs by split: in each some seeds of pictures, each with one to three captions."""
    seeds = iter(draw(st.lists(st.integers(0, 10**6), min_size=9, max_size=9, unique=True)))
    splits = ["train", "val", *draw(st.lists(st.just("test"), max_size=1))]
    texts = st.lists(captions, min_size=1, max_size=3, unique=True)
    return {split: [(next(seeds), draw(texts)) for _ in range(draw(st.integers(1, 3)))] for split in splits}


# Forms: each writes rows of (path of the picture, captions) into a file beside the pictures


def write_pictures(folder, rows):
    for name, seed, _ in rows:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(seed))


def write_csv(file, rows, extra, delimiter=","):
    """A row for each caption."""
    write_pictures(file.parent, rows)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(["filepath", "title", *extra])
        writer.writerows([name, text, *extra.values()] for name, _, texts in rows for text in texts)


def write_tsv(file, rows, extra):
    write_csv(file, rows, extra, "\t")


def write_jsonl(file, rows, extra):
    write_pictures(file.parent, rows)
    lines = [json.dumps({"filepath": name, "title": texts, **extra}) for name, _, texts in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parquet_of(image, text):
    """A writer of Parquet with columns of some types; with bytes the pictures are in the table."""

    def write(file, rows, extra):
        flat = [
            (name, seed, each) for name, seed, texts in rows for each in ([texts] if pa.types.is_list(text) else texts)
        ]
        if pa.types.is_binary(image):
            images = pa.array([png(seed) for _, seed, _ in flat], image)
        elif pa.types.is_struct(image):
            images = pa.array([{"bytes": png(seed), "path": name} for name, seed, _ in flat], image)
        else:
            write_pictures(file.parent, rows)
            images = pa.array([name for name, _, _ in flat], pa.string()).cast(image)
        texts = pa.array([each for _, _, each in flat], text if pa.types.is_list(text) else pa.string())
        columns = {"filepath": images, "title": texts if pa.types.is_list(text) else texts.cast(text)}
        pq.write_table(pa.table(columns | {name: [value] * len(flat) for name, value in extra.items()}), file)

    return write


TABLES = {
    "csv": ("csv", ".csv", write_csv),
    "tsv": ("csv", ".tsv", write_tsv),
    "jsonl": ("jsonl", ".jsonl", write_jsonl),
    "parquet": ("parquet", ".parquet", parquet_of(pa.string(), pa.string())),
    "parquet-large": ("parquet", ".parquet", parquet_of(pa.large_string(), pa.large_string())),
    "parquet-dictionary": (
        "parquet",
        ".parquet",
        parquet_of(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
    ),
    "parquet-bytes": ("parquet", ".parquet", parquet_of(pa.binary(), pa.list_(pa.string()))),
    "parquet-struct": (
        "parquet",
        ".parquet",
        parquet_of(pa.struct({"bytes": pa.binary(), "path": pa.string()}), pa.list_(pa.large_string())),
    ),
}


# Layouts: where the splits are said


def table_source(folder, form, pairs, layout, draw):
    kind, ending, write = TABLES[form]
    named = {split: draw(st.sampled_from(names)) for split, names in SPLITS.items()}
    places, columns = [], Columns()
    for split, rows in pairs.items():
        rows = [(f"{'' if layout == 'folders' else split + '-'}{index}.png", *row) for index, row in enumerate(rows)]
        match layout:
            case "given":
                file = folder / f"{'abc'[len(places)]}{ending}"
                places.append(f"{named[split]}={file}")
            case "folders":
                file = folder / named[split] / f"metadata{ending}"
                places = [str(folder)]
            case "names":
                pattern = draw(st.sampled_from(["{}", "{}-00000-of-00001", "captions_{}", "set.{}", "{}2017"]))
                file = folder / f"{pattern.format(named[split])}{ending}"
                places = [str(folder)]
            case "column":
                file = folder / f"part{len(places)}{ending}"
                places.append(str(file))
                columns = Columns(split="part")
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, rows, {"part": named[split]} if layout == "column" else {})
    return SOURCES[kind].of(places, columns)


def webdataset_source(folder, pairs, layout, draw):
    places = []
    for split, rows in pairs.items():
        name = draw(st.sampled_from(SPLITS[split]))
        file = {"folders": folder / name / "00000.tar", "names": folder / f"cc-{name}-0000.tar"}.get(layout)
        file = file or folder / f"{'abc'[len(places)]}.tar"
        places.append(f"{name}={file}" if layout == "given" else str(folder))
        file.parent.mkdir(parents=True, exist_ok=True)
        one_each = draw(st.booleans())
        with tarfile.open(file, "w") as tar:
            for index, (seed, texts) in enumerate(rows):
                samples = [[text] for text in texts] if one_each else [texts]
                for number, own in enumerate(samples):
                    caption = {"txt": own[0].encode()} if one_each else {"json": json.dumps({"captions": own}).encode()}
                    for form, content in {"png": png(seed), **caption}.items():
                        member = tarfile.TarInfo(f"{split}/{index:05d}{number}.{form}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    return WebDataset.at(*dict.fromkeys(places))


def coco_source(folder, pairs, layout, draw):
    annotations = {}
    for split, rows in pairs.items():
        write_pictures(folder / split, [(f"{index}.png", *row) for index, row in enumerate(rows)])
        images = [{"id": index, "file_name": f"{index}.png"} for index in range(len(rows))]
        texts = [{"image_id": index, "caption": text} for index, (_, own) in enumerate(rows) for text in own]
        annotations[split] = folder / f"{split}.json"
        annotations[split].write_text(json.dumps({"images": images, "annotations": texts}), encoding="utf-8")
    return Coco(annotations, {split: folder / split for split in pairs})


def layouts():
    tables = [(form, layout) for form in TABLES for layout in ("given", "folders", "names", "column")]
    shards = [("webdataset", layout) for layout in ("given", "folders", "names")]
    return [*tables, *shards, ("coco", "given")]


def content(store):
    """What a training sees of each split: pixels, tokens, captions, labels; one digest for it."""
    digest = hashlib.sha256()
    for name in sorted(store.meta.splits):
        split = store.split(name)
        captions = [split.captions(row) for row in range(len(split))]
        digest.update(repr((name, captions, split.labels, split.offsets.tolist())).encode())
        digest.update(split.gather(np.arange(len(split))).tobytes() + split.texts.tobytes())
    return digest.hexdigest()


@pytest.mark.whole
@pytest.mark.parametrize(("form", "layout"), layouts())
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=data_sets(), choices=st.data())
def test_same_pairs_in_any_form_and_layout_give_the_same_store(tmp_path, form, layout, pairs, choices):
    folder = tmp_path / str(next(_fresh))
    folder.mkdir()
    if form == "webdataset":
        source = webdataset_source(folder, pairs, layout, choices.draw)
    elif form == "coco":
        source = coco_source(folder, pairs, layout, choices.draw)
    else:
        source = table_source(folder, form, pairs, layout, choices.draw)
    store = build(source, out=folder / "store", image_size=SIZE, context_length=CONTEXT)
    assert set(store.meta.splits) == set(pairs)
    for name, rows in pairs.items():
        split = store.split(name)
        assert [split.captions(row) for row in range(len(split))] == [texts for _, texts in rows]
        assert np.array_equal(split.gather(np.arange(len(split))), [np.asarray(picture(seed)) for seed, _ in rows])
        assert np.array_equal(split.texts, tokenize([text for _, texts in rows for text in texts], CONTEXT))
        assert split.labels is None


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=data_sets(), choices=st.data())
def test_content_hash_is_the_same_for_all_forms_with_equal_ids(tmp_path, pairs, choices):
    hashes = set()
    for form in ("csv", "tsv", "jsonl", "parquet", "parquet-large", "parquet-dictionary"):
        folder = tmp_path / str(next(_fresh))
        folder.mkdir()
        source = table_source(folder, form, pairs, "column", choices.draw)
        hashes.add(build(source, out=folder / "store", image_size=SIZE, context_length=CONTEXT).meta.content_hash)
    assert len(hashes) == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_file_without_a_split_among_files_with_one_is_refused_by_name(tmp_path, form):
    kind, ending, write = TABLES[form]
    for name in ("train", "validation", "extra"):
        write(tmp_path / f"{name}{ending}", [(f"{name}.png", len(name), ["a text"])], {})
    with pytest.raises(UserError, match="extra"):
        SOURCES[kind].of([str(tmp_path)], Columns())
