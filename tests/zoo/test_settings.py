"""Sizes and trainings of every model, for images of many sizes, are those written out in settings.yaml."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from genbench.contract import DataSpec, Recipe
from zoo.cgan import CGAN
from zoo.cyclegan import CycleGAN
from zoo.dcgan import DCGAN
from zoo.ddim import DDIM
from zoo.ddpm import DDPM
from zoo.edm import EDM
from zoo.flow_matching import FlowMatching
from zoo.gan import GAN
from zoo.glow import Glow
from zoo.latent_diffusion import LatentDiffusion
from zoo.mean_flow import MeanFlow
from zoo.nets import affordable, small_recipe, small_sizes, usual_sizes
from zoo.pixelcnn import PixelCNN
from zoo.realnvp import RealNVP
from zoo.stylegan import StyleGAN
from zoo.vae import VAE

ZOO = {
    "cgan": CGAN, "cyclegan": CycleGAN, "dcgan": DCGAN, "ddpm": DDPM, "edm": EDM, "flow_matching": FlowMatching,
    "gan": GAN, "glow": Glow, "latent_diffusion": LatentDiffusion, "mean_flow": MeanFlow, "pixelcnn": PixelCNN,
    "realnvp": RealNVP, "stylegan": StyleGAN, "vae": VAE,
}  # fmt: skip
SETTINGS = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text(encoding="utf-8"))
KINDS = ("preset", "recipe", "small config", "small recipe")


def settings(model, kind, size):
    """The preset or the recipe of a model, or one of the two that it has for a CPU."""
    data = DataSpec(3, *map(int, size.split("x")))
    if kind.startswith("small"):
        return model.small(data)[kind.endswith("recipe")]
    return getattr(model, kind)(data)


def listed(value):
    """The value with lists for tuples, as YAML has them."""
    return [listed(v) for v in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ZOO)
def test_settings_are_those_written_out(name, kind):
    for sizes, written in SETTINGS[name][kind].items():
        for size in sizes.split():
            found = settings(ZOO[name], kind, size)
            usual = {f.name: listed(f.default) for f in fields(found)}
            assert set(written) <= set(usual)
            for field, value in asdict(found).items():
                expected = written.get(field, usual[field])
                if isinstance(expected, float):
                    assert value == pytest.approx(expected), (size, field)
                else:  # as text, because 8.0 equals 8
                    assert str(listed(value)) == str(expected), (size, field)


def test_every_model_is_written_out_with_ddims_as_ddpms():
    assert set(SETTINGS) == set(ZOO)
    for size in ("8x8", "32x32", "256x256"):
        for kind in KINDS:
            assert settings(DDIM, kind, size) == settings(DDPM, kind, size)


@pytest.mark.parametrize(("side", "images"), [(31, 5_000), (32, 700), (64, 175)])
def test_a_short_training_of_large_images_takes_as_long_as_one_of_32x32(side, images):
    assert affordable(DataSpec(1, side, side), 5_000, 700) == images


def test_small_sizes_have_as_many_resolutions_as_the_sides_allow():
    assert small_sizes(DataSpec(1, 15, 16))["multipliers"] == (1,)
    assert small_sizes(DataSpec(1, 16, 50))["multipliers"] == (1, 2)
    assert usual_sizes(DataSpec(1, 256, 264))["multipliers"] == (1, 1, 2, 2)
    assert usual_sizes(DataSpec(1, 32, 40)) == {"multipliers": (1, 2, 2, 2), "attention": (16,), "dropout": 0.1}
    assert usual_sizes(DataSpec(1, 34, 34))["attention"] == ()
    assert small_recipe(DataSpec(1, 40, 32), 1_000) == Recipe(
        lr=2e-3, batch=16, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=800
    )
