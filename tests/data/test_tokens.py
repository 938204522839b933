import random
import string
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import get_tokenizer
from open_clip.tokenizer import SimpleTokenizer

from gaptune.data.tokens import END, START, encode, tokenize

ODD_TEXTS = [
    "",
    " ",
    "a photo of a dog",
    "A Dog AND A CAT",
    "I don't think they're here; we've won, I'm sure she'd say it'll do.",
    "dogs' tails , the dog 's tail",
    "don 't split",
    "two  spaces\tand\ttabs\nand lines\r\nand more",
    "100% of 3.14 is 42nd-best!!! (really?!)",
    "!!!",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u0130stanbul",
    "\u0395\u039b\u039b\u0391\u03a3 \u03bf\u03b4\u03cc\u03c2",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4",
    "smile \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 end",
    "\u201ccurly quotes\u201d and \u2018these\u2019 \u2014 a dash\u2026",
    "\ufb01ligature \uff26\uff55\uff4c\uff4c width",
    "mojibake: schÃ¶n â€œquotedâ€\x9d l’Ã©tÃ© Ã  la mer",
    "no\u00a0break\u2003em\u200bzero\u3000wide",
    "soft\u00adhyphen e\u0301 combining",
    "a &amp; b &lt;3 &quot;x&quot; &#39;y&#39; &nbsp; z",
    "&amp;amp;lt; twice &amp;amp;",
    "AT&T R&D &copy 2024 &unknown; &#x1F600;",
    "<b>bold</b> &amp; <i>tag</i>",
    "<start_of_text> inside <end_of_text>",
    "<START_OF_TEXT>",
    "\x1b[31mred\x1b[0m bell\x07 null\x00 delete\x7f",
    "half a pair \ud83d of surrogates",
    "x" * 500,
    "a man rides a horse " * 40,
    "under_scores and-dashes/slashes\\back @home #tag $5 ^ ` ~ | {braces} [brackets]",
]
PIECES = st.sampled_from(
    [
        "don't",
        "it's",
        "&amp;",
        "&lt;",
        "&",
        "<",
        ">",
        "Ã©",
        "â€",
        "™",
        "é",
        "DOG",
        "dog",
        "42",
        "!?",
        "'",
        '"',
        "\u0130",
        "ſ",
    ]
)


@pytest.fixture(scope="module")
def reference():
    return SimpleTokenizer()


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:30]))
def test_ids_are_open_clips(text, reference):
    assert encode(text) == reference.encode(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_ids_of_any_text_are_open_clips(text, reference):
    assert encode(text) == reference.encode(text)


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=8), gap=st.sampled_from(["", " ", "\n", "\u00a0"]))
def test_ids_of_a_word_do_not_depend_on_its_neighbors(pieces, gap, reference):
    text = gap.join(pieces)
    assert encode(text) == reference.encode(text)


@pytest.mark.parametrize("context_length", [4, 16, 32, 77])
def test_rows_are_open_clips(context_length):
    expected = get_tokenizer("RN50")(ODD_TEXTS, context_length=context_length).numpy()
    assert np.array_equal(tokenize(ODD_TEXTS, context_length), expected)


def test_long_text_is_cut_and_still_ends_with_the_end_token():
    row = tokenize(["a man rides a horse " * 40], 16)[0]
    assert row[0] == START
    assert row[-1] == END
    assert np.count_nonzero(row == END) == 1


def test_end_token_is_the_highest_id_of_every_row():
    rows = tokenize([text for text in ODD_TEXTS if "end_of_text" not in text], 77)
    assert (rows.max(axis=1) == END).all()


def test_no_texts_give_no_rows():
    assert tokenize([], 16).shape == (0, 16)
    assert tokenize([], 16).dtype == np.uint16


def _random_word(seed):
    draw = random.Random(seed)
    if seed % 3 == 0:
        return draw.choice(["the", "inter", "nation", "haha", "x", "!?", "\u00e9a", "\U0001f600"]) * draw.randint(
            100, 400
        )
    letters = draw.choice(["ab", "aeiou", "etaoin", string.ascii_letters])
    return "".join(draw.choices(letters, k=draw.randint(300, 1200)))


@pytest.mark.whole
@pytest.mark.parametrize("seed", range(40))
def test_long_word_is_truncated_to_its_first_tokens(seed, reference):
    word = _random_word(seed)
    whole = reference.encode(word)
    for most in (1, 10, 75):
        assert encode(word, most) == whole[:most]
        assert encode(f"a {word} b", most) == reference.encode(f"a {word} b")[:most]


@pytest.mark.parametrize("start", ["", "\u00e9 "])
def test_one_word_of_50000_letters_takes_milliseconds(start):
    """The square of its length would be half a minute."""
    encode("warm up", 75)
    word = start + "".join(random.Random(1).choices(string.ascii_letters, k=50_000))
    before = time.process_time()
    row = tokenize([word], 77)[0]
    assert time.process_time() - before < 1
    assert (row[0], row[-1]) == (START, END)
