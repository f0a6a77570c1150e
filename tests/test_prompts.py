"""Prompts of a file: which image is drawn for which, what is measured of it, what is stated, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from genbench.commands.plan import describe_plan
from genbench.data.images import open_images
from genbench.data.labels import Classes
from genbench.data.prompts import Prompts, named_classes, read_prompts
from genbench.draw.blocks import Conditions
from genbench.errors import DataError, SuiteError
from genbench.evaluate.cell import evaluate
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.store import Store
from genbench.suite.schema import read_suite

MINE = '''
import numpy as np
import torch
from PIL import Image
from genbench.contract import Draws, TextConditional
from genbench.features import Extractor, ExtractorSource, Features, TextFeatures


class Obedient(Draws, TextConditional):
    """Images whose level is the length of the text."""

    def sample(self, n, gen, condition=None):
        levels = torch.tensor([float(len(text)) for text in condition.texts])
        return (2 * levels / (self.data.levels - 1) - 1).view(-1, 1, 1, 1).expand(n, *self.data.shape)


class Deaf(Draws):
    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape)


def directions(values):
    angles = np.asarray(values, np.float32) / 20
    return np.stack([np.cos(angles), np.sin(angles)], 1)


class Both(Extractor):
    name, weights_hash = "both", "none"

    def __call__(self, pixels, levels, batch=500):
        return Features(directions(pixels.float().mean((1, 2, 3))))

    def texts(self, texts):
        return TextFeatures(directions([len(text) for text in texts]), cut=sum(len(text) > 9 for text in texts))


BOTH = ExtractorSource("levels and lengths", load=lambda dataset, device, options: Both(), has_texts=True)
'''
SUITE = """suite: asked
dataset: {name: digits}
features: "./mine.py:BOTH"
samples: 10
block: 4
prompts: ./p.txt
models:
  - {name: text, source: "./mine.py:Obedient"}
  - {name: deaf, source: "./mine.py:Deaf"}
metrics: [clip_score, clip_agreement, fid]
"""
LINES = "one\n\n seven  \nsixteen!\nabcdefghij\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "p.txt").write_text(LINES)
    return tmp_path


def planned(folder, text=SUITE):
    (folder / "s.yaml").write_text(text)
    return make_plan(read_suite(folder / "s.yaml"))


def cells(plan):
    return {cell.label: cell for cell in plan.cells}


def records(plan, label):
    return {r.metric: r for r in evaluate(cells(plan)[label], False, Store(), "cpu", silent)}


# ---- files


def test_one_prompt_in_each_line_or_row(tmp_path):
    expected = ("a cat, sitting", "two dogs")
    (tmp_path / "p.txt").write_text("\ufeffa cat, sitting\r\n\n two  dogs\n")
    (tmp_path / "p.csv").write_text('caption,note\n"a cat,\nsitting",x\ntwo dogs,y\n')
    (tmp_path / "p.jsonl").write_text('{"prompt": "a cat, sitting"}\n\n{"prompt": "two dogs"}\n')
    (tmp_path / "q.csv").write_text('text,english\nx,"a cat, sitting"\ny,two dogs\n')
    assert {read_prompts(tmp_path / name).texts for name in ("p.txt", "p.csv", "p.jsonl")} == {expected}
    assert read_prompts(tmp_path / "q.csv", "english").texts == expected


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("p.txt", "\n \n", "", "found no prompts, allowed: at least one"),
        ("p.txt", "a", "x", "found column 'x' of a .txt"),
        (
            "p.csv",
            "a,b\n1,2\n",
            "",
            r"row 1: found nothing \(columns: a, b\), allowed: text in a column text or caption",
        ),
        ("p.csv", "a,b\n1,2\n", "c", r"row 1: found nothing \(columns: a, b\), allowed: text in a column c"),
        ("p.jsonl", '{"text": "a"}\n{"text": 3}\n', "", "row 2: found 3"),
        ("p.jsonl", '{"text": "a"}\n["b"]\n', "", "p.jsonl.*2: found list, allowed: a JSON object"),
        ("p.md", "a", "", "found '.md', allowed: .txt, .csv, .jsonl"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_row(tmp_path, name, content, column, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / name, column)


def test_prompts_name_classes_or_do_not():
    classes = Classes(3, (("cat", "a photo of a cat"), ("dog",), ("cow",)))
    assert named_classes(("dog", "A photo of a cat", "1"), classes) == (1, 0, 1)
    assert named_classes(("dog", "two dogs"), classes) == ()
    assert named_classes(("dog",), Classes(0)) == ()


# ---- which image is drawn for which


@pytest.mark.parametrize("each", [1, 3, 50])
def test_image_i_is_of_text_i_over_each(each):
    wanted = [("a", "b", "c")[i // each % 3] for i in range(20)]
    conditions = Conditions(texts=("a", "b", "c"), text_labels=torch.tensor([5, 6, 7]), each=each)
    for size in (4, 7, 20):
        assert list(conditions.first_texts(20, 0, size)) == wanted
        assert conditions.first_labels(20, 0, size).tolist() == [{"a": 5, "b": 6, "c": 7}[text] for text in wanted]


def test_a_model_is_asked_for_the_prompts_and_others_are_not(folder):
    plan = planned(folder)
    found = records(plan, "text")
    assert found["clip_agreement"].value == 1.0
    assert found["clip_score"].value == pytest.approx(2.5, abs=1e-4)
    asked = found["clip_score"].protocol
    assert asked["data"]["prompts"] == 4
    assert asked["model"]["prompts"] == Prompts(("one", "seven", "sixteen!", "abcdefghij")).facts
    assert found["clip_score"].warnings[-1] == (
        "1 of 4 prompts are longer than the extractor reads: their ends are ignored"
    )
    assert not [text for text in found["fid"].warnings if "prompts" in text]
    deaf = records(plan, "deaf")
    assert deaf["clip_score"].reason == deaf["clip_agreement"].reason == "its samples were drawn without texts"
    assert deaf["fid"].status == "ok"
    assert records(plan, "memorised train")["clip_score"].reason == "a scale row is drawn without texts"


def test_other_prompts_draw_again_only_what_reads_them(folder):
    keys = {label: cell.samples_key for label, cell in cells(planned(folder)).items()}
    hashes = records(planned(folder), "text")["clip_score"].protocol_hash
    (folder / "p.txt").write_text(LINES + "nine\n")
    longer = planned(folder)
    several = planned(folder, SUITE.replace("./p.txt", "{file: ./p.txt, each: 2}"))
    for plan in (longer, several):
        changed = {label for label, cell in cells(plan).items() if cell.samples_key != keys[label]}
        assert changed == {"text"}
    assert cells(longer)["text"].samples_key != cells(several)["text"].samples_key
    assert records(longer, "text")["clip_score"].protocol_hash != hashes
    (folder / "p.txt").rename(folder / "q.txt")
    (folder / "q.txt").write_text(LINES)
    renamed = planned(folder, SUITE.replace("p.txt", "q.txt"))
    assert {label: cell.samples_key for label, cell in cells(renamed).items()} == keys


def test_without_prompts_the_captions_of_the_data_are_asked_for_and_held_out_images_have_theirs(folder):
    plan = planned(folder, SUITE.replace("prompts: ./p.txt\n", ""))
    found = records(plan, "text")["clip_score"]
    assert found.protocol["model"]["prompts"] == "captions of the data"
    real = records(plan, "held-out real")["clip_score"]
    assert real.status == "ok"
    samples = Store().path("samples", cells(plan)["held-out real"].samples_key)
    dataset = __import__("genbench.data", fromlist=["load"]).load({"name": "digits"})
    known = {dataset.test.pixels[i].numpy().tobytes(): dataset.texts(dataset.test)[i] for i in range(len(dataset.test))}
    drawn, texts = np.load(samples / "pixels.npy"), json.loads((samples / "texts.json").read_text())
    assert [known[image.tobytes()] for image in drawn] == texts


def test_classes_are_requested_by_prompts_that_name_them(folder):
    text = SUITE.replace('"./mine.py:BOTH"', "classifier").replace("clip_score, clip_agreement", "prompt_agreement")
    with pytest.raises(SuiteError, match=r"prompt_agreement: not available .* the suite's prompts name no classes"):
        planned(folder, text)
    (folder / "p.txt").write_text("three\nthe handwritten digit seven\n")
    assert records(planned(folder, text), "text")["prompt_agreement"].status == "ok"


def test_a_model_that_only_draws_needs_no_captions_in_the_data(folder):
    np.savez(folder / "x.npz", images=np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    bare = SUITE.replace("{name: digits}", "{name: npz, path: ./x.npz}")
    assert records(planned(folder, bare), "text")["clip_agreement"].value == 1.0
    with pytest.raises(SuiteError, match="Obedient is conditioned on text; found dataset npz without captions"):
        planned(folder, bare.replace("prompts: ./p.txt\n", ""))
    with pytest.raises(SuiteError, match="LatentDiffusion is conditioned on text; found dataset npz without captions"):
        planned(folder, bare.replace('text, source: "./mine.py:Obedient"', "latent_diffusion"))


def test_images_made_elsewhere_have_the_captions_of_their_file(folder):
    texts = np.array(["seven", "one", "abcdefghij"] * 4)
    pixels = np.stack([np.full((8, 8), len(text), np.uint8) for text in texts])
    np.savez(folder / "made.npz", images=pixels, prompts=texts)
    np.savez(folder / "bare.npz", images=pixels)
    rows = "{name: made, samples: ./made.npz}\n  - {name: bare, samples: ./bare.npz}\n  - {name: deaf"
    plan = planned(folder, SUITE.replace("{name: deaf", rows))
    assert records(plan, "made")["clip_agreement"].value == 1.0
    assert records(plan, "bare")["clip_agreement"].reason.startswith("bare.npz: found no captions, allowed: metadata")
    np.savez(folder / "made.npz", images=pixels, prompts=texts[:5])
    with pytest.raises(SuiteError, match="found 5 prompts for 12 images; must agree"):
        planned(folder, SUITE.replace("{name: deaf", rows))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("./p.txt", "./none.txt", "s.yaml:6: prompts: .*none.txt: not found"),
        ("./p.txt", "./mine.py", "s.yaml:6: prompts: .*mine.py: found '.py', allowed: .txt, .csv, .jsonl"),
        ("./p.txt", "{file: ./p.txt, each: 0}", "s.yaml:6: prompts.each: found 0"),
        ("./p.txt", "{file: ./p.txt, column: x}", "s.yaml:6: prompts: .*found column 'x' of a .txt"),
        ('"./mine.py:BOTH"', "pixels", "clip_score: not available for any model of this suite; .* allowed: clip"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_at_their_place(folder, old, new, message):
    with pytest.raises(SuiteError, match=message):
        planned(folder, SUITE.replace(old, new))


def test_files_with_captions_are_not_reported_as_strangers(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "metadata.jsonl").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert open_images(tmp_path).found.notes["others"].count == 1


def test_a_plan_states_how_prompts_belong_to_images(folder):
    planned(folder, SUITE.replace("./p.txt", "{file: ./p.txt, each: 3}").replace("samples: 10", "samples: 7"))
    assert "  prompts: 4 of ./p.txt, 3 images in a row for each; 1 of them are not used with samples: 7" in (
        describe_plan(folder / "s.yaml", "cpu", None).splitlines()
    )
    planned(folder)
    assert "  prompts: 4 of ./p.txt, 1 image in a row for each" in describe_plan(folder / "s.yaml", "cpu", None)
