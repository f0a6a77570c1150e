"""Further kinds of diffusers' pipelines: latent diffusion, consistency models, Stable Diffusion XL."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from genbench.contract import Condition, DataSpec, abilities
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.errors import CellFailure, ModelError
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded

diffusers = pytest.importorskip("diffusers", reason="an optional source")
pytest.importorskip("transformers", reason="an optional source")

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "sources"
SPEC = DataSpec(1, 8, 8, 17, classes=10)
UNCONDITIONAL, LABELS = Condition(), Condition(torch.tensor([3, 1, 4]))
TEXTS = Condition(texts=("a three", "a one", "a four"))


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return runpy.run_path(str(EXAMPLES / "make_kinds.py"), run_name="make_kinds")


def wish(condition, i):
    if condition.texts:
        return {"prompt": [condition.texts[i]], "height": 8, "width": 8}
    return {} if condition.labels is None else {"class_labels": condition.labels[i : i + 1].tolist()}


@pytest.mark.parametrize(
    ("write", "condition", "ability", "evaluations"),
    [
        ("latent", UNCONDITIONAL, None, 3),
        ("consistency", UNCONDITIONAL, None, 3),
        ("consistency_of_a_class", LABELS, "ClassConditional", 3),
        ("large", TEXTS, "TextConditional", 6),  # guidance is on
        ("stable_3", TEXTS, "TextConditional", 6),
        ("flux", TEXTS, "TextConditional", 3),
        ("pixart", TEXTS, "TextConditional", 6),
    ],
)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_it_draws_what_diffusers_draws_and_each_image_on_its_own(
    example, tmp_path, write, condition, ability, evaluations
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        example[f"write_{write}"](tmp_path / "made")
    kind = resolve_model("any", "diffusers:./made", tmp_path)
    assert abilities(kind) == tuple(name for name in (ability, "Steps") if name)
    model = build(kind, SPEC, {"batch": 2}, {"steps": 3}, 0).eval()
    with EvaluationCount(model) as counted:
        drawn = model.sample(3, seeded(1), None if condition is UNCONDITIONAL else condition)
    assert model.evaluations == evaluations
    verify_evaluations(model, counted.per_image(3))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "made")
    pipeline.set_progress_bar_config(disable=True)
    for i, seed in enumerate(torch.randint(2**63 - 1, (3,), generator=seeded(1)).tolist()):  # one at a time
        more = {"use_resolution_binning": False} if write == "pixart" else {}  # of published sizes only
        image = pipeline(
            **wish(condition, i), **more, generator=seeded(seed), num_inference_steps=3, output_type="np"
        ).images
        assert torch.allclose(drawn[i : i + 1], torch.from_numpy(image).permute(0, 3, 1, 2) * 2 - 1, atol=1e-4)


def test_what_needs_more_than_a_class_or_a_text_is_refused_in_a_line(example, tmp_path):
    with torch.random.fork_rng():
        sys.modules["make_pipelines"].write_stable(tmp_path / "made")
    parts = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "made").components
    repaint = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    repaint.save_pretrained(tmp_path / "repaint")
    model = build(resolve_model("any", "diffusers:./repaint", tmp_path), SPEC, {}, {"steps": 2}, 0)
    with pytest.raises(CellFailure, match="StableDiffusionImg2ImgPipeline: diffusers cannot draw with it in this way"):
        model.sample(1, seeded(0), Condition(texts=("a",)))
    index = {"_class_name": "KandinskyV22Pipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "made" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="KandinskyV22Pipeline requires image_embeds, allowed: prompt, class_labels"):
        resolve_model("any", "diffusers:./made", tmp_path)


def test_further_arguments_of_a_call(example, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        example["write_flux"](tmp_path / "made")
    kind = resolve_model("any", "diffusers:./made", tmp_path)
    options = {"steps": 2, "negative_prompt": "blurry", "call": {"true_cfg_scale": 2.0}}
    model = build(kind, SPEC, {}, options, 0).eval()
    with EvaluationCount(model) as counted:
        model.sample(2, seeded(1), Condition(texts=("a", "b")))
    assert model.evaluations == 4
    verify_evaluations(model, counted.per_image(2))
    with pytest.raises(ModelError, match=r"FluxPipeline: sampler.call.true_cfg: unknown key; did you mean"):
        build(kind, SPEC, {}, {"call": {"true_cfg": 2.0}}, 0)
