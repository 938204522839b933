import io
import json
import shutil

import numpy as np
import pytest
from coco_files import CocoFiles, build_coco, picture
from PIL import Image

from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError


@pytest.fixture
def files(tmp_path):
    return CocoFiles(tmp_path)


def left_in(files):
    return sorted(path.name for path in files.folder.iterdir() if path.name.startswith("store"))


def unread(store, split="train"):
    return store.meta.source["unread"][split]


def encoded(image, form="JPEG"):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def test_images_keep_all_their_captions_in_the_order_of_the_file(files):
    files.add("train", "more.png", picture(9), ["one", "two", "three"])
    files.content["train"]["annotations"].append({"image_id": 1, "caption": "a late one"})
    store = build_coco(**files.arguments())
    train = store.split("train")
    assert train.ids == [f"{index}.jpg" for index in range(6)] + ["more.png"]
    assert train.captions(0) == ["train picture 0", "another caption", "a late one"]
    assert train.captions(6) == ["one", "two", "three"]
    texts = [text for row in range(len(train)) for text in train.captions(row)]
    assert np.array_equal(train.texts, tokenize(texts, 12))
    assert train.offsets.tolist() == [0, 3, 5, 7, 9, 11, 13, 16]
    assert train.labels is None
    assert store.meta.name == "store"
    assert (store.meta.image_size, store.meta.context_length) == (16, 12)
    assert open_store(store.path).meta == store.meta
    store.verify()


@pytest.mark.parametrize("size", [(48, 16), (16, 48)], ids=["wide", "high"])
@pytest.mark.parametrize("scale", [1, 3])
def test_middle_of_an_image_is_kept(size, scale, files):
    image = Image.new("RGB", (size[0] * scale, size[1] * scale), "red")
    middle = Image.new("RGB", (16 * scale, 16 * scale), "blue")
    image.paste(middle, ((image.width - middle.width) // 2, (image.height - middle.height) // 2))
    files.add("train", "x.png", image, ["x"])
    stored = build_coco(**files.arguments()).split("train").gather(np.array([6]))[0]
    assert (stored[1:-1, 1:-1] == (0, 0, 255)).all()
    assert np.array_equal(stored, stored[::-1, ::-1])
    assert stored[..., 0].max() < 30, "at its edge a larger image is mixed with what lies beyond"


def test_shorter_side_is_resized_as_a_plain_bicubic_resize_does(files):
    image = picture(3, width=96, height=64)
    files.add("train", "x.png", image, ["x"])
    stored = build_coco(**files.arguments()).split("train").gather(np.array([6]))[0]
    plain = image.resize((24, 16), Image.Resampling.BICUBIC).crop((4, 0, 20, 16))
    assert np.array_equal(stored, np.asarray(plain))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "x.png"),
        ("L", "x.jpg"),
        ("RGBA", "x.png"),
        ("LA", "x.png"),
        ("P", "x.png"),
        ("1", "x.png"),
        ("CMYK", "x.jpg"),
    ],
)
def test_images_of_any_mode_become_rgb(mode, name, files):
    gray = Image.linear_gradient("L").resize((40, 32))
    files.add("train", name, gray.convert("RGB").convert(mode), ["x"])
    store = build_coco(**files.arguments())
    assert unread(store) == {}
    stored = store.split("train").gather(np.array([6]))[0].astype(int)
    assert np.abs(stored - stored.mean(axis=2, keepdims=True)).max() <= 8, "a gray image stays gray"
    assert stored[0].mean() < 40
    assert stored[-1].mean() > 215


def test_missing_and_broken_images_are_skipped_counted_and_named(files):
    good = encoded(picture(0))
    files.add("train", "gone.jpg", None, ["x"])
    files.add("train", "cut.jpg", good[: len(good) // 2], ["x"])
    files.add("train", "text.jpg", b"<html>404</html>", ["x"])
    files.add("train", "empty.png", b"", ["x"])
    files.add("val", "cut.png", encoded(picture(0), "PNG")[:100], ["x"])
    files.add("train", "last.jpg", picture(11), ["x"])
    store = build_coco(**files.arguments())
    assert unread(store) == {
        "missing": [f"gone.jpg (not in {files.folder / 'train'})"],
        "cut short": ["cut.jpg"],
        "not an image": ["text.jpg (HTML)"],
        "empty": ["empty.png"],
    }
    assert unread(store, "val") == {"cut short": ["cut.png"]}
    assert store.meta.source["left_out"]["train"] == dict.fromkeys(unread(store), 1)
    assert store.split("train").ids == [f"{index}.jpg" for index in range(6)] + ["last.jpg"]
    assert len(store.split("val")) == 3


def test_only_the_first_broken_images_of_a_reason_are_named(files):
    for index in range(120):
        files.add("train", f"gone{index}.jpg", None, ["x"])
    source = build_coco(**files.arguments(max_broken=0.99)).meta.source
    assert source["left_out"]["train"] == {"missing": 120}
    assert len(source["unread"]["train"]["missing"]) == 20


def test_too_many_broken_images_fail_the_build_and_leave_no_files(files):
    for index in range(4):
        files.add("val", f"gone{index}.jpg", None, ["x"])
    with pytest.raises(UserError) as caught:
        build_coco(**files.arguments(max_broken=0.1))
    assert str(caught.value) == (
        "4 of 7 val images are missing or broken (--max-broken allows 10.00%): 4 missing: "
        + ", ".join(f"gone{index}.jpg (not in {files.folder / 'val'})" for index in range(3))
        + ", …"
    )
    assert left_in(files) == []


def test_allowed_fraction_itself_is_no_error(files):
    files.add("val", "gone.jpg", None, ["x"])
    assert len(unread(build_coco(**files.arguments(max_broken=0.25)), "val")["missing"]) == 1
    shutil.rmtree(files.folder / "store")
    with pytest.raises(UserError, match="1 of 4 val images"):
        build_coco(**files.arguments(max_broken=0.24))


def test_all_images_of_a_split_may_be_broken_where_that_is_allowed_but_not_all_of_a_store(tmp_path):
    files = CocoFiles(tmp_path / "a", val=0)
    files.add("val", "gone.jpg", None, ["x"])
    with pytest.raises(UserError, match="1 of 1 val images"):
        build_coco(**files.arguments(max_broken=0.99))
    assert list(build_coco(**files.arguments(max_broken=1.0)).meta.splits) == ["train"]
    files = CocoFiles(tmp_path / "b", train=0, val=0)
    for split in ("train", "val"):
        files.add(split, "gone.jpg", None, ["x"])
    with pytest.raises(UserError, match=r"empty data: no image is left \(2 missing\): 1 missing: gone.jpg \(not in"):
        build_coco(**files.arguments(max_broken=1.0))
    assert left_in(files) == []


def test_images_and_captions_without_a_counterpart_are_left_out_and_counted(files):
    files.add("train", "silent.jpg", picture(1), [])
    files.add("train", "blank.jpg", picture(1), [" \n"])
    files.content["val"]["annotations"].append({"image_id": 99, "caption": "of nothing"})
    store = build_coco(**files.arguments())
    assert store.meta.source["left_out"]["train"] == {"no caption": 2}
    assert store.meta.source["without_image"] == 1
    assert len(store.split("train")) == 6
    assert store.meta.splits["val"].captions == 6


def test_captions_longer_than_the_context_are_counted(files):
    fits = "one two three four five six seven eight nine ten"
    files.add("train", "x.jpg", picture(11), [fits, fits + " eleven", fits + " eleven twelve"])
    store = build_coco(**files.arguments())
    assert store.meta.source["truncated"] == 2
    assert store.split("train").captions(6)[2] == fits + " eleven twelve"


def test_lone_surrogate_in_a_caption_is_replaced(files):
    files.add("train", "x.jpg", picture(11), ["smile \ud83d"])
    assert build_coco(**files.arguments()).split("train").captions(6) == ["smile ?"]


def test_lone_surrogate_in_a_file_name_is_a_missing_image(files):
    files.add("train", "x.jpg", None, ["x"])
    files.content["train"]["images"][-1]["file_name"] = "bad\ud83d.jpg"
    assert build_coco(**files.arguments()).meta.source["left_out"]["train"] == {"cannot be opened": 1}


def test_progress_counts_the_images_of_all_splits(files):
    files.add("train", "gone.jpg", None, ["x"])
    heard = []
    build_coco(**files.arguments(progress=lambda *counts: heard.append(counts)))
    assert heard == [(done, 10) for done in range(1, 11)]


def test_interrupted_build_leaves_no_files(files):
    def stop(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_coco(**files.arguments(progress=stop))
    assert left_in(files) == []


def test_same_input_gives_the_same_hash_elsewhere_and_in_any_order_of_splits(tmp_path):
    one, other = CocoFiles(tmp_path / "one", train=300), CocoFiles(tmp_path / "other", train=300)
    backwards = other.arguments()
    backwards |= {key: dict(reversed(backwards[key].items())) for key in ("annotations", "images")}
    first, second = build_coco(**one.arguments()), build_coco(**backwards)
    assert first.meta.content_hash == second.meta.content_hash
    assert first.split("train").ids == [f"{index}.jpg" for index in range(300)]


@pytest.mark.parametrize("change", [{"image_size": 17}, {"context_length": 11}], ids=lambda change: next(iter(change)))
def test_different_arguments_give_a_different_hash(change, files):
    first = build_coco(**files.arguments())
    second = build_coco(**files.arguments(out=files.folder / "other", **change))
    assert first.meta.content_hash != second.meta.content_hash


def without(split, key):
    def change(arguments):
        del arguments[key][split]

    return change


def writing(text):
    def change(arguments):
        arguments["annotations"]["val"].write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


IMAGE = {"id": 1, "file_name": "0.jpg"}
CAPTION = {"image_id": 1, "caption": "x"}


def content(images=(IMAGE,), annotations=(CAPTION,)):
    return json.dumps({"images": images, "annotations": annotations})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("val", "images"), r"there are no images for the split 'val' \(--images val=...\)"),
        (without("train", "annotations"), "there are no annotations for the split 'train'"),
        (lambda arguments: arguments["images"].update(tset=arguments["out"]), "no annotations for the split 'tset'"),
        (lambda arguments: arguments["images"].update(val=arguments["out"]), "there is no folder .*store"),
        (
            lambda arguments: [
                arguments[key].update({"a/b": arguments[key]["val"]}) for key in ("images", "annotations")
            ],
            "'a/b' cannot name a split",
        ),
        (lambda arguments: arguments["annotations"]["val"].unlink(), "val.json: cannot be read: No such file"),
        (
            lambda arguments: arguments["annotations"].update(val=arguments["images"]["val"]),
            "val: cannot be read: Is a",
        ),
        (writing('{\n"images": [,]}'), "val.json:2: not JSON: "),
        (writing(b"\xff\xfe{"), "val.json: is not in UTF-8"),
        (writing("[]"), "not a COCO captions file: it has no list 'images'"),
        (writing('{"images": []}'), "none|no list 'annotations'"),
        (writing(content(images=[{"id": 1}])), r"images\[0\] has no usable 'file_name'"),
        (writing(content(images=[IMAGE, 3])), r"images\[1\] has no usable 'id'"),
        (writing(content(annotations=[CAPTION, {"image_id": 1}])), r"annotations\[1\] has no usable 'caption'"),
        (writing(content(annotations=[{"image_id": 1, "caption": None}])), "none of its images has a caption"),
        (writing(content(annotations=[{"image_id": 1, "caption": 3}])), r"annotations\[0\]: int \(3\) is no caption"),
        (writing(content(annotations=[CAPTION | {"image_id": "x"}])), "no image_id is the id of an image .*'x', id 1"),
        (writing(content(annotations=[CAPTION | {"image_id": 1.5}])), r"annotations\[0\] has no usable 'image_id'"),
        (writing(content(images=[IMAGE | {"id": True}])), r"images\[0\] has no usable 'id'"),
        (
            writing(content(images=[IMAGE, IMAGE | {"file_name": "1.jpg"}])),
            "two images have the id 1: '0.jpg' and '1.jpg'",
        ),
        (writing("[" * 100_000), "lists in lists without end|not JSON"),
        (writing(content(images=[])), "none of its images has a caption"),
        (writing(content(annotations=[])), "none of its images has a caption"),
    ],
)
def test_invalid_input_is_refused_in_one_line_before_any_work(change, message, files):
    arguments = files.arguments(progress=lambda *counts: pytest.fail("it started to work"))
    change(arguments)
    with pytest.raises(UserError, match=message) as caught:
        build_coco(**arguments)
    assert "\n" not in str(caught.value)
    assert left_in(files) == []


def test_existing_file_is_not_overwritten(files):
    first = build_coco(**files.arguments())
    with pytest.raises(UserError, match="store exists; remove it or give another --out"):
        build_coco(**files.arguments(image_size=17))
    first.verify()


def test_real_photographs_become_a_store(flickr8k, tmp_path):
    n = 200
    annotations = {}
    for split in ("train", "val"):
        whole = json.loads((flickr8k / "annotations" / f"captions_{split}.json").read_text(encoding="utf-8"))
        ids = {image["id"] for image in whole["images"][:n]}
        annotations[split] = tmp_path / f"{split}.json"
        annotations[split].write_text(
            json.dumps(
                {
                    "images": whole["images"][:n],
                    "annotations": [each for each in whole["annotations"] if each["image_id"] in ids],
                }
            )
        )
    store = build_coco(
        annotations=annotations,
        images={split: flickr8k / split for split in annotations},
        out=tmp_path / "store",
        image_size=72,
        context_length=32,
        max_broken=0,
        progress=lambda done, total: None,
    )
    assert unread(store) == {}
    for name in annotations:
        split = store.split(name)
        assert len(split) == n
        assert (np.diff(split.offsets) == 5).all()
        images = split.gather(np.arange(n)).astype(float)
        assert 90 < images.mean() < 140, "photographs are of middling brightness"
        assert len({image.tobytes() for image in images}) == n
    row = store.split("val").ids.index(store.split("val").ids[7])
    with Image.open(flickr8k / "val" / store.split("val").ids[row]) as photograph:
        plain = np.asarray(photograph.resize((72, 72), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(store.split("val").gather(np.array([row]))[0] - plain).mean() < 1
