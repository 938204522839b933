"""Words and phrases to avoid, each with a better one. Prints ``file:line: found -> use instead``."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml", "docs/**/*.md")
CODE = ("gaptune/**/*.py", "gaptune/**/*.html", "gaptune/**/*.js", "docs/*.py", "analysis/*.py", "benchmarks/*.py")
YAML = ("search_spaces/*.yaml", "sweeps/*.yaml", "deploy/**/*.yaml", "ray_cluster.yaml")
TEST_NAMES = ("tests/**/test_*.py",)  # only the names of the tests: what they quote may be old
CHECKED = (*DOCS, *CODE, *YAML, *TEST_NAMES)

# Lines that must quote an old word: the file, and a pattern that finds the line.
ALLOWED = [
    ("CHANGELOG.md", r"^\| (search space|sweep config.*|commands|options|example sweeps|metrics|Python.*) \| "),
    ("gaptune/text/renamed.py", r"^ +\"|^[A-Z_]+ = \{\""),  # the table of old names
    ("gaptune/ledger/schema1.py", r"suggestion|budget|\"knobs\"|\"scores\""),
    ("gaptune/ledger/events.py", r"suggestion"),
    ("gaptune/metrics/classification.py", r"\.score\("),  # scikit-learn's name
    *((f"gaptune/pareto/{name}.py", r"moocore\.\w+\(.*maximise=") for name in ("dominance", "hypervolume")),
]


def word(*names: str) -> str:
    """A pattern for whole words, also as a part of snake_case and CamelCase names."""
    forms = "|".join(f"[{name[0].upper()}{name[0]}]{name[1:]}|{name.upper()}" for name in names)
    return rf"(?<![A-Za-z])(?:{forms})(?![a-z])"


BANNED = {
    # terms
    word("knob", "knobs"): "parameter, params",
    word("conductor", "conductors"): "orchestrator",
    word("asker", "askers"): "study",
    word("stopper", "stoppers"): "early stopping",
    word("suggestion", "suggestions"): "candidate",
    word("score", "scores"): "metric",
    r"\bMEASURES\b": "metric",
    word("promote", "promotes", "promoted", "promotion"): "transfer",
    word("fault", "faults") + r"(?! tolerance)": "error, failure",
    word("picture", "pictures"): "plot (drawn), image (pixels)",
    r"\b[Ss]hares? of\b|\b(a|an equal|the same) shares?\b|_share\b|\bshare_|[.\-]share\b": "fraction",
    r"(?<!full )(?<!full_)\bbudget\b": "number of candidates; full budget = epochs",
    r"\bthe box\b|\b(one|common) box\b|of the box": "reference point and ideal point",
    r"\binitial points\b": "points_to_evaluate",
    r"early_stopping\.(eta|first|moving)\b|[{ ,](eta|first|moving): \d": "reduction_factor, …",
    word("orient", "oriented"): "maximized(values)",
    r"\bspread of\b|\.spread\b": "standard deviations, stds",
    r"\bpairs:PATH|\bdata build pairs\b|--tasks pairs\b|tasks: \[.*\bpairs\b": "mmvp",
    r"\bresults folder|\bresult folder": "results directory",
    r"""\brecorded sweeps?\b|\brecorded-paper\b|\bgaptune \w+ recorded\b|["'`]recorded["'`]""": "example",
    r"\b(MLflow's pages|pages of MLflow|page of MLflow)\b": "MLflow UI",
    r"\b[Rr]ooms?\b|\bthree doors\b|\bthin doors\b": "package; searcher, scheduler and callback hooks",
    r"(?<![\w-])--(on|trials|picture|val-share|draws|correlation|unfinished)\b": "the new option (CHANGELOG, Renamed)",
    r"\brule: (halving|random|none)|\bhalving\b(?<!successive halving)": "method: asha",
    r"zeroshot/accuracy|probe/accuracy|pairs_accuracy|\b(zeroshot|probe|knn)_top\d|_mean_recall\b": "zeroshot/top1, …",
    r"\btrain/swapped\b(?!_fraction)": "train/swapped_fraction",
    # US spelling and typography
    r"\b[Ll]earnt\b|\bspelt\b|\bburnt\b": "learned",
    r"\w*[Cc]olour\w*|\w*[Nn]eighbour\w*|\w*[Bb]ehaviour\w*|\b[Cc]entre\w*|\b[Gg]rey\b": "color, neighbor, behavior",
    r"\b\w*(normal|optim|minim|maxim|token|recogn|summar|initial|random|parametr|organ)is(e|ed|es|ing|ation)\b": "-ize",
    r"\b[Ll]abell(ed|ing)\b|\b[Mm]odell(ed|ing)\b|\b[Cc]ancelled\b": "labeled, modeled, canceled",
    r"\d %": "95%",
    # phrases
    r"\bhears? it\b": "deduplicates",
    r"\bgoes with\b|\bdo not tell\b": "correlates with; no clear correlation",
    r"\bBest in \w+/": "best …",
    r"\b[Tt]here is no knee\b": "the front has no knee: no candidate lies beyond the line between its ends",
    r"\bacross / up\b": "x axis / y axis",
    r"\bTwo commands\b": "Quick start",
    r"\bkeeps what is done\b": "Ctrl-C is safe",
    r"\bfound something or nothing\b": "at random",
    r"\bin MLflow as in the ledger\b": "MLflow is up to date with the ledger",
    r"\b[Tt]he same (by|among)\b": "say what the option does",
    r"\brepeat each other\b": "repetitions",
    r"\bfront of all together\b": "joint front",
    r"\bholds one of them\b": "a directory that contains one of them",
    r"\ballow but\b": "all that the data support, except",
    r"\bthere already\b": "existing",
    r"\bChange it, too\b": "Open the notebook for editing.",
    r"\bthat no server has\b": "used for links to MLflow runs",
    r"\bclaims against\b": "test the claims",
    r"\bbetter side\b": "default direction",
    r"\bMLflow (does not answer|answers)\b": "MLflow is (un)reachable",
    r"\bunder way\b": "running",
    r"\btoo few to say\b": "too few completed trials to judge",
    r"\bWhat is kept and what is lost\b": "Filtering and deduplication",
    r"\bfor some price\b": "optimal trade-offs; choosing one needs a preference",
    r"\b(go|goes|gone|going|went) on\b": "resume, continue",
    r"\b(said|says|told|tried|asked) again\b": "re-emit, repeat, retry",
    r"\bwhat for\b": "content, purpose",
    r"\b(is|are|was|were|be) (said|told)\b|\bis answered with\b": "print, report",
    r"\b(tell|tells|told|telling)( \w+)? apart\b": "distinguish, classify",
    r"\b(caught|catch|catches) up\b": "updated",
    r"\bwhat is done is kept\b": "finished trials are kept",
    r"\bgo(es)? together\b|\bdo(es)? not come together\b": "correlated; conflict",
    r"\bstands twice\b": "duplicate metric",
    r"\bwhat there is not\b": "no node has the resources",
    r"\bmust be so anyhow\b": "must equal the defaults",
    r"\bso does pip\b": "installing with pip takes about as long",
    r"\bbrings?\b.*\bcosts?\b|\bcosts? as much as it\b": "the front has no knee: …",
    r"\b(who|whoever) stays on\b": "which candidates remain on the front",
    r"\bworked out\b": "computed",
    r"\b(to )?dig on\b": "to explore further",
    r"\bfrom none up\b": "minimum 0",
    r"\bgives up little\b": "best trade-off",
    r"\bis another one\b": "a different one exists",
    r"\blet go of\b": "released",
    r"\blonely\b": "largest crowding distance",
    r"\bnext to nothing\b": "hardly, chance level",
    r"\b(to be had|at hand)\b(?<!no data at hand)": "available",
    r"\bis of no use\b": "cannot evaluate",
    r"\boutcome in words\b": "summary",
    r"\bthe truth\b": "the record",
    r"\bflatters\b": "looks better than it is",
    r"\b[Hh]olds? (its|these|the paper's) claims\b": "test the claims",
    r"\bhand trained models on\b|\b[Hh]and (it|them) on\b": "export",
    r"\bround in a circle\b": "circular conditions",
    r"\bgone different ways\b": "diverged",
    r"\bis to come\b|\bto be forgotten\b": "can be started; delete",
    r"\bnothing of the order\b|\bwas blind\b": "ranks at this rung do not predict final ranks",
    r"\boutside the constraints\b": "infeasible",
    r"\bends alike\b|\bend alike\b": "have the same last part",
    r"\bWhich \w+ matter\b|\bHow the search went\b|\bWhat ran where\b|\bTo run it again\b": "the section's usual name",
    r"\bIt takes (two|eight) complete\b": "Needs at least two (eight) complete candidates",
    r"\bside by side\b": "in parallel",
    r"\bof yours\b": "your own",
    r"\bcome(s)? along\b|\bcame along\b": "is included",
    r"""(\w: |["'(])Of (a|an|the|each|every|random|what|which)\b""": "a noun phrase: 'Number of GPUs per trial.'",
}


def checked(path: Path) -> str:
    """A file in which only what is checked has words: of tests their names, of the changelog what is unreleased."""
    text = path.read_text(encoding="utf-8")
    if path.name == "CHANGELOG.md":
        text = re.split(r"\n## (?!Unreleased)", text)[0]
    lines = text.splitlines()
    if path.parts[len(ROOT.parts)] == "tests":
        lines = [line.replace("_", " ") if line.lstrip().startswith("def test_") else "" for line in lines]
    allowed = [pattern for file, pattern in ALLOWED if file == path.relative_to(ROOT).as_posix()]
    return "\n".join("" if any(re.search(pattern, line) for pattern in allowed) else line for line in lines)


def findings(path: Path):
    """What is to be said otherwise in a file."""
    text = checked(path)
    for pattern, better in BANNED.items():
        for found in re.finditer(pattern, text):  # no pattern goes beyond a line
            number = text.count("\n", 0, found.start()) + 1
            yield f"{path.relative_to(ROOT).as_posix()}:{number}: {found[0].strip()} -> {better}"


@pytest.mark.parametrize("pattern", CHECKED)
def test_nothing_is_written_in_words_to_avoid(pattern):
    found = [each for path in sorted(ROOT.glob(pattern)) for each in findings(path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("line", "better"),
    [
        ("the knobs of a trial", "parameter, params"),
        ("class KnobEntry(Schema): ...", "parameter, params"),
        ("def with_knobs(): ...", "parameter, params"),
        ("a share of steps", "fraction"),
        ("95 % of them", "95%"),
        ("it goes on with the trial", "resume, continue"),
        ("gaptune sweep temp.yaml --on x.yaml", "the new option (CHANGELOG, Renamed)"),
        ("    seed: Of the bootstrap.", "a noun phrase: 'Number of GPUs per trial.'"),
    ],
)
def test_the_check_finds(line, better):
    assert better in [use for pattern, use in BANNED.items() if re.search(pattern, line)]


@pytest.mark.parametrize("line", ["the default store", "fault tolerance", "shared storage", "--only", "full budget"])
def test_the_check_lets_pass(line):
    assert not [pattern for pattern in BANNED if re.search(pattern, line)]
