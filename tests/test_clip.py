"""CLIP from a folder: embeddings and scores as transformers and torchmetrics compute them; what is refused."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import genbench
from genbench import metrics
from genbench.errors import DataError
from genbench.features import FeatureOptions, load_extractor, protocol_fields
from genbench.features.clip import clip_folder

transformers = pytest.importorskip("transformers", reason="the extra clip")
EXAMPLES = Path(__file__).parent.parent / "examples" / "sources"
TEXTS = ("a three", "an eight, drawn with a thick pen", "six")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example's clip/ and captioned/, with larger random weights, which tell images apart."""
    place = tmp_path_factory.mktemp("clip")
    made = runpy.run_path(str(EXAMPLES / "make_clip.py"), run_name="make_clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made["write_clip"](place / "clip")
        model = transformers.CLIPModel.from_pretrained(place / "clip")
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
        model.save_pretrained(place / "clip")
    made["write_captioned"](place / "captioned")
    return place


@pytest.fixture(scope="module")
def extractor(folder):
    return load_extractor("clip", "any", options=FeatureOptions(folder / "clip"))


def pictures(shape, n=3, seed=0):
    return torch.randint(256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 40, 48), (3, 96, 64), (1, 8, 8)])
def test_embeddings_are_those_of_transformers(folder, extractor, shape):
    pixels = pictures(shape)
    model = transformers.CLIPModel.from_pretrained(folder / "clip").eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder / "clip")
    colour = list(pixels.expand(-1, 3, -1, -1))
    inputs = processor(text=list(TEXTS), images=colour, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs)
    for found, wanted in (
        (extractor(pixels, 256).vectors, expected.image_embeds),
        (extractor.texts(TEXTS).vectors, expected.text_embeds),
    ):
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
        assert np.abs(found - wanted.numpy()).max() < 2e-3  # one level of a pixel may be rounded otherwise
    assert np.linalg.norm(expected.image_embeds[0] - expected.image_embeds[1]) > 0.05


def test_the_score_is_that_of_torchmetrics(folder, extractor):
    torchmetrics = pytest.importorskip("torchmetrics", reason="compared with")
    from torchmetrics.functional.multimodal import clip_score

    pixels, texts = pictures((3, 32, 32), 8), [TEXTS[i % 3] for i in range(8)]

    class Model(transformers.CLIPModel):
        """What torchmetrics expects: tensors, which transformers 5 wraps."""

        def get_image_features(self, *args, **options):
            return super().get_image_features(*args, **options).pooler_output

        def get_text_features(self, *args, **options):
            return super().get_text_features(*args, **options).pooler_output

    model = Model.from_pretrained(folder / "clip").eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder / "clip")
    own = {"fake": extractor(pixels, 256).vectors, "texts": extractor.texts(texts).vectors}
    per_image = [
        clip_score(pixels[i], texts[i], model_name_or_path=lambda: (model, processor)).item() for i in range(8)
    ]
    assert torchmetrics.__version__
    assert metrics.clip_score(**own) == pytest.approx(np.mean(per_image) / 40, abs=1e-4)
    assert metrics.clip_score(**own) > 0.01


def test_long_texts_are_cut_as_transformers_cuts_them_and_counted(extractor):
    long, longer = "x" * 60, "x" * 80
    found = extractor.texts((long, longer, "x"))
    assert found.cut == 2
    assert np.allclose(found.vectors[0], found.vectors[1], atol=1e-6)
    assert not np.allclose(found.vectors[0], found.vectors[2], atol=1e-2)


def test_batches_do_not_matter(extractor):
    pixels = pictures((3, 32, 32), 20)
    whole, alone = extractor(pixels, 256).vectors, extractor(pixels[17:18], 256).vectors
    assert np.allclose(whole[17], alone[0], atol=1e-5)


def test_the_hash_is_of_all_files_that_are_read(folder, tmp_path):
    def content(change):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(folder / "clip", tmp_path / "c")
        change(tmp_path / "c")
        return (
            clip_folder(FeatureOptions(tmp_path)).content
            if (tmp_path / "clip").exists()
            else clip_folder(FeatureOptions(tmp_path / "c")).content
        )

    def other_tokens(path):
        (path / "merges.txt").write_text("#version: 0.2\na b</w>\n")

    plain = content(lambda path: None)
    assert plain == protocol_fields("clip", "any", FeatureOptions(folder))["extractor_weights"]  # folder/clip is found
    assert content(other_tokens) != plain
    assert content(lambda path: (path / "notes.md").write_text("x")) == plain


def broken(name, path):
    if name == "pickled":
        torch.save({}, path / "pytorch_model.bin")
        (path / "model.safetensors").unlink()
    elif name == "empty":
        shutil.rmtree(path)
        path.mkdir()
    else:
        config = json.loads((path / "config.json").read_text())
        config |= {"model_type": "siglip"} if name == "other" else {"projection_dim": 8}
        (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickled", "found no .safetensors, allowed: weights as .safetensors, which hold no code"),
        ("empty", "allowed: a folder that transformers' CLIPModel was saved to, with config.json"),
        ("other", "found model_type 'siglip', allowed: 'clip'"),
        ("sizes", "c: found (no such weights as|files that cannot be loaded as CLIP)"),
    ],
)
def test_what_is_refused(folder, tmp_path, name, message):
    shutil.copytree(folder / "clip", tmp_path / "c")
    broken(name, tmp_path / "c")
    with pytest.raises(DataError, match=message):
        load_extractor("clip", "any", options=FeatureOptions(tmp_path / "c"))


def test_images_made_elsewhere_are_scored_with_their_captions(folder, tmp_path):
    wanted = {"reference": "digits", "features": "clip", "weights": folder / "clip"}
    names = ["clip_score", "clip_agreement"]
    scores = genbench.score(fake=folder / "captioned", metrics=names, **wanted)
    assert set(scores.values) == set(names)
    record = scores.records[0]
    assert record.protocol["data"]["prompts"] == 6
    assert record.protocol["features"]["extractor_weights"] == clip_folder(FeatureOptions(folder)).content

    lines = (folder / "captioned" / "metadata.jsonl").read_text().splitlines()
    shutil.copytree(folder / "captioned", tmp_path / "bare", ignore=shutil.ignore_patterns("*.jsonl"))
    (tmp_path / "p.txt").write_text("\n".join(json.loads(line)["text"] for line in lines))
    given = genbench.score(fake=tmp_path / "bare", metrics=names, prompts=tmp_path / "p.txt", **wanted)
    assert given.values == pytest.approx(scores.values)
    without = genbench.score(fake=tmp_path / "bare", metrics=["fid", *names], **wanted)
    assert set(without.values) == {"fid"}
    assert without.records[1].reason.startswith("bare: found no captions, allowed: metadata.jsonl, .csv or .txt")
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"found 2 prompts for the 24 images of .*bare; must agree"):
        genbench.score(fake=tmp_path / "bare", metrics=names, prompts=tmp_path / "p.txt", **wanted)
