"""Tar files: their end, archives in one file, samples whose members lie apart, endings, names."""

import bz2
import gzip
import io
import json
import lzma
import tarfile

import pytest
from coco_files import picture
from image_files import damaged_avif, encoded
from shard_files import tar

from gaptune.data.build import build
from gaptune.data.sources import WebDataset
from gaptune.errors import UserError


def pairs(count, start=0, name="{:05d}"):
    return [
        (f"{name.format(number)}.{ending}", content)
        for number in range(start, start + count)
        for ending, content in (("png", encoded(picture(number), "PNG")), ("txt", f"caption {number}".encode()))
    ]


@pytest.fixture
def built(tmp_path):
    def make(content, **options):
        (tmp_path / "s.tar").write_bytes(content)
        source = WebDataset.at(str(tmp_path / "s.tar"))
        return build(source, out=tmp_path / "store", image_size=16, context_length=12, val_fraction=0, **options)

    return make


def captions(store):
    split = store.split("train")
    return [split.captions(row) for row in range(len(split))]


def offsets(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [member.offset for member in archive]


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["no", "gz", "bz2", "xz"])
def test_shard_is_read_to_its_end_however_it_is_packed(packed, built):
    assert len(captions(built(packed(tar(pairs(10)))))) == 10


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["no", "gz"])
@pytest.mark.parametrize("beyond", [0, 100, 512, 700])
def test_truncated_shard_is_refused(packed, beyond, built):
    whole = tar(pairs(10))
    cut = whole[: offsets(whole)[8] + beyond]
    with pytest.raises(UserError, match=r"s.tar: (has no end: the file was cut short|cannot be read as a tar file)"):
        built(packed(cut))


def test_truncated_compressed_file_is_refused(built):
    with pytest.raises(UserError, match=r"s.tar: cannot be read as a tar file"):
        built(gzip.compress(tar(pairs(10)))[:-100])


def test_damaged_header_is_not_the_end_of_a_shard(built):
    content = bytearray(tar(pairs(10)))
    content[offsets(bytes(content))[6] + 5] ^= 1
    with pytest.raises(UserError, match=r"s.tar: is damaged at byte"):
        built(bytes(content))


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["no", "gz"])
def test_concatenated_archives_are_read_completely(packed, built):
    content = packed(tar(pairs(10))) + packed(tar(pairs(10, 10))) + packed(tar(pairs(3, 20)))
    assert [texts[0] for texts in captions(built(content))] == [f"caption {number}" for number in range(23)]


def test_archives_with_the_same_names_do_not_mix_their_samples(built, caplog):
    other = [(f"00000.{ending}", content) for (_, content), ending in zip(pairs(1, 7), ("png", "txt"), strict=True)]
    store = built(tar(pairs(1)) + tar(other))
    assert captions(store) == [["caption 0"], ["caption 7"]]
    assert "several samples have one name, such as 00000" in caplog.text


def test_repeated_names_are_read_and_logged(built, caplog):
    again = [(name.replace("00009", "00000"), content) for name, content in pairs(1, 9)]
    assert len(captions(built(tar([*pairs(3), *again])))) == 4
    assert "several samples have one name, such as 00000" in caplog.text


def test_two_neighbors_of_one_name_are_refused(built):
    again = [(name.replace("00007", "00000"), content) for name, content in pairs(1, 7)]
    with pytest.raises(UserError, match=r"s.tar: 00000.png comes twice"):
        built(tar([*pairs(1), *again]))


@pytest.mark.parametrize("order", [lambda members: members[::2] + members[1::2], lambda members: members[1:-1] * 1])
def test_members_of_a_sample_must_be_neighbors(order, built):
    members = pairs(4)
    unsorted = order(members)
    if unsorted == members[1:-1]:
        unsorted = [*members[1:], members[0]]
    with pytest.raises(UserError, match=r"00000: (txt|png) does not follow (png|txt): .*`tar --sort=name`"):
        built(tar(unsorted))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"input.png": b"x", "outputs.txt": b"words"}, r"no sample has an image .*found are input.png \(4\), outputs"),
        (
            {"png": None, "caption": b"words"},
            r"no sample has a caption \(txt, json\) or a label; .* png \(4\), caption",
        ),
        ({"jpg.png.npy": b"x", "txt": b"words"}, r"no sample has an image .*jpg.png.npy \(4\)"),
    ],
)
def test_endings_that_are_not_read_are_listed(members, said, built):
    content = [
        (f"s{number}.{ending}", encoded(picture(number), "PNG") if some is None else some)
        for number in range(4)
        for ending, some in members.items()
    ]
    with pytest.raises(UserError, match=said):
        built(tar(content), max_broken=1)


def test_images_of_all_formats_and_cases_are_read(built):
    forms = {"JPG": "JPEG", "jfif": "JPEG", "gif": "GIF", "avif": "AVIF", "tiff": "TIFF", "bmp": "BMP", "pgm": "PPM"}
    members = []
    for number, (ending, form) in enumerate(forms.items()):
        image = picture(number).convert("L") if ending == "pgm" else picture(number)
        members += [(f"{number}.{ending}", encoded(image, form)), (f"{number}.TXT", b"words %d" % number)]
    assert len(captions(built(tar(members)))) == len(forms)


def test_leftover_files_of_operating_systems_are_not_samples(built):
    left = [("._00000.png", b"x"), ("__MACOSX/._00000.png", b"x"), ("__MACOSX/00000.txt", b"x"), ("folder/", b"")]
    assert len(captions(built(tar([*left, *pairs(2)])))) == 2


def test_names_in_latin_1_are_read(built):
    store = built(tar(pairs(4, name="caf\u00e9 {}"), encoding="latin-1"))
    assert store.split("train").ids == [f"caf\u00e9 {number}" for number in range(4)]


def test_alt_text_of_lines_is_one_caption_where_json_says_so(built):
    text = "A long alt text that\nwent over\n\nseveral lines"

    def sample(number, txt, content):
        image = encoded(picture(number), "PNG")
        return [(f"{number}.png", image), (f"{number}.txt", txt), (f"{number}.json", json.dumps(content).encode())]

    members = sample(0, text.encode(), {"caption": text})
    members += sample(1, text.replace("\n", "\r\n").encode(), {"caption": text, "url": "x"})
    members += sample(2, b"\xef\xbb\xbfone\r\ntwo\n", {"caption": "another"})
    members += sample(3, "one\u2028half\ntwo".encode(), {"captions": ["one", "two"]})
    assert captions(built(tar(members))) == [[text], [text], ["one", "two"], ["one\u2028half", "two"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"caption": 3}, r"0.json: int \(3\) is no caption"),
        ({"captions": [{"raw": "x"}]}, "0.json: a record with 'raw'"),
    ],
)
def test_caption_in_json_that_is_no_text_is_refused(content, said, built):
    members = [("0.png", encoded(picture(0), "PNG")), ("0.json", json.dumps(content).encode())]
    with pytest.raises(UserError, match=said):
        built(tar(members))


def test_damaged_image_is_skipped_and_others_are_read(built):
    store = built(tar([*pairs(200), ("z.jpg", damaged_avif()), ("z.txt", b"damaged"), ("y.png", b""), ("y.txt", b"x")]))
    assert len(captions(store)) == 200
    assert store.meta.source["left_out"]["train"] == {"damaged": 1, "empty": 1}
    assert store.meta.source["unread"]["train"]["damaged"][0].startswith("z (Failed to decode")
