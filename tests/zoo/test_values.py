"""Losses, gradients, samples, likelihoods and codes of small networks with fixed random weights: values.yaml has them.

The other tests compare mathematics with closed forms. Kernels, paddings, slopes, orders of layers and initial weights
have none: any network is a valid one. These values were computed by the networks when they had the published numbers of
parameters, agreed with independent implementations where such exist, and trained well; here they must stay as they
are. A deliberate change of a model needs new values: python tests/zoo/test_values.py writes them.
"""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from genbench.contract import Batch, Condition, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded, to_unit_range
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
from zoo.pixelcnn import PixelCNN
from zoo.realnvp import RealNVP
from zoo.stylegan import StyleGAN
from zoo.vae import VAE

FILE = Path(__file__).with_name("values.yaml")
DATA, BLACK_AND_WHITE, GREY = DataSpec(3, 8, 12, 17, 5), DataSpec(3, 8, 12, 2, 5), DataSpec(1, 16, 12, 17, 5)
UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "groups": 4, "dropout": 0.2}
AROUND = UNET | {"padding": "around"}
LATENT = {
    "latent": 2, "width": 4, "depths": (1, 2), "depth_blocks": 1, "critic_start": 0, "critic_width": 4, "groups": 2,
    "critic_halvings": 1, "channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "heads": 2, "steps": 10,
    "text_width": 8, "text_layers": 1, "text_length": 6, "kl": 0.1,
}  # fmt: skip
STYLE = {"latent": 8, "mapping_layers": 2, "channels": 64, "most": 8, "path_interval": 1, "r1_interval": 1, "group": 2}
CASES = {
    "gan": (GAN, {"latent": 4, "widths": (8, 6)}, {}),
    "gan, wasserstein": (GAN, {"latent": 4, "widths": (8,), "loss": "wasserstein-gp", "dropout": 0.0}, {}),
    "gan, least squares": (GAN, {"latent": 4, "widths": (8,), "loss": "least-squares"}, {}),
    "gan, hinge": (GAN, {"latent": 4, "widths": (8,), "loss": "hinge"}, {}),
    "gan, minimax": (GAN, {"latent": 4, "widths": (8,), "loss": "minimax"}, {}),
    "dcgan": (DCGAN, {"latent": 4, "width": 4, "critic_width": 3, "doublings": 2}, {}),
    "cgan": (CGAN, {"latent": 4, "label": 3, "width": 4, "critic_width": 3, "doublings": 2}, {}),
    "cgan, projection": (CGAN, {"latent": 4, "label": 3, "width": 4, "critic_width": 3, "doublings": 2,
                                "conditioning": "projection", "loss": "hinge"}, {}),
    "cyclegan": (CycleGAN, {"width": 3, "halvings": 2, "blocks": 1, "critic_halvings": 1, "pool": 3}, {}),
    "cyclegan, grey": (CycleGAN, {"width": 3, "halvings": 1, "blocks": 2, "critic_halvings": 2, "identity": 0.0}, {}),
    "stylegan": (StyleGAN, STYLE, {}),
    "stylegan, adain": (StyleGAN, STYLE | {"generator": "adain", "shortcuts": False, "path_shrink": 4},
                        {"psi": 0.7, "cutoff": 2}),
    "vae": (VAE, {"latent": 3, "channels": 4, "halvings": 1, "hidden": 6, "couplings": 2, "details": (2, 1)}, {}),
    "vae, gaussian": (VAE, {"latent": 3, "channels": 4, "hidden": 6, "likelihood": "gaussian"}, {"output": "sample"}),
    "vae, bernoulli": (VAE, {"latent": 3, "channels": 4, "hidden": 6, "likelihood": "bernoulli", "beta": 2.0},
                       {"output": "sample"}),
    "vae, logistic": (VAE, {"latent": 3, "channels": 4, "hidden": 6}, {"output": "sample"}),
    "realnvp": (RealNVP, {"scales": 2, "channels": 4, "blocks": 1, "couplings": 3, "final": 2}, {}),
    "realnvp, no batch norm": (RealNVP, {"scales": 1, "channels": 4, "blocks": 2, "batch_norm": False},
                               {"temperature": 0.7}),
    "glow": (Glow, {"levels": 2, "steps": 2, "width": 6}, {"temperature": 0.7}),
    "glow, additive": (Glow, {"levels": 2, "steps": 1, "width": 6, "coupling": "additive", "lu": True}, {}),
    "glow, positions": (Glow, {"levels": 1, "steps": 2, "width": 6, "positions": True, "constraint": 0.97,
                               "least_scale": 0.5}, {}),
    "pixelcnn": (PixelCNN, {"width": 4, "scales": 2, "blocks": 1, "components": 2}, {}),
    "pixelcnn, one scale": (PixelCNN, {"width": 4, "scales": 1, "blocks": 2, "components": 2}, {}),
    "ddpm": (DDPM, UNET | {"steps": 4}, {}),
    "ddpm, v": (DDPM, AROUND | {"steps": 4, "schedule": "cosine", "prediction": "v", "error": "eps",
                                "variance": "learned"}, {}),
    "ddpm, x0": (DDPM, UNET | {"steps": 4, "prediction": "x0"}, {"variance": "small"}),
    "ddim": (DDIM, UNET | {"steps": 8}, {"steps": 4, "eta": 0.5}),
    "ddim, quadratic": (DDIM, UNET | {"steps": 8}, {"steps": 3, "spacing": "quadratic", "clip": False}),
    "edm": (EDM, UNET, {"steps": 4, "churn": 2.0}),
    "edm, euler": (EDM, AROUND, {"steps": 3, "solver": "euler"}),
    "flow_matching": (FlowMatching, UNET | {"pairing": "optimal"}, {"steps": 3}),
    "flow_matching, heun": (FlowMatching, UNET | {"sigma_min": 0.1}, {"steps": 2, "solver": "heun"}),
    "flow_matching, midpoint": (FlowMatching, UNET, {"steps": 2, "solver": "midpoint"}),
    "flow_matching, adaptive": (FlowMatching, UNET, {"solver": "adaptive", "tolerance": 0.05}),
    "mean_flow": (MeanFlow, UNET, {"steps": 2}),
    "latent_diffusion": (LatentDiffusion, LATENT, {"steps": 3}),
    "latent_diffusion, v": (LatentDiffusion, LATENT | {"prediction": "v", "zero_terminal": True, "text_dropout": 0.5,
                                                    "critic_halvings": 2},
                            {"steps": 2, "guidance": 1.0, "eta": 1.0, "spacing": "leading"}),
}  # fmt: skip


DATA_OF = {"vae, bernoulli": BLACK_AND_WHITE, "cyclegan, grey": GREY, "latent_diffusion, v": GREY}  # others: DATA
SQUARE = DataSpec(3, 8, 8, 17)
EXPORTED = ("ddpm", "ddpm, v", "ddpm, x0", "ddim", "edm, euler", "flow_matching", "mean_flow")


def random_batch(data, n=4, seed=1):
    """Random pixels with labels and texts, and other images to translate from."""
    pixels, source = (
        torch.randint(0, data.levels, (n, *data.shape), generator=seeded(s)).to(torch.uint8) for s in (seed, seed + 9)
    )
    x, source = (to_unit_range(p, data.levels) for p in (pixels, source))
    return Batch(x, pixels, torch.arange(n) % data.classes, tuple(f"no. {i}" for i in range(n)), source)


def awake(model):
    """The model with noise on every weight, so that layers which start at zero do not hide what is behind them."""
    gen = seeded(5)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=gen) / math.sqrt(fan_in))
    return model


def numbers(tensor):
    """Two numbers that depend on every element and its position: a weighted sum, and the mean square."""
    flat = tensor.detach().double().flatten()
    weights = (0.7 * torch.arange(1, len(flat) + 1, dtype=torch.float64)).cos()
    return [float((flat * weights).sum()), float(flat.square().mean())]


def computed(case):
    """All values of one model, by name."""
    (kind, config, sampler), data = CASES[case], DATA_OF.get(case, DATA)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, batch = (
            kind(data, kind.Config(**config), kind.Sampler(**sampler) if sampler else None),
            random_batch(data),
        )
        values = {"initial": numbers(torch.cat([p.flatten() for p in model.parameters()]))}
        model.train().prepare(batch, seeded(2))
        awake(model)
        for player in [turn for stage in model.stages for turn in stage.turns]:
            values |= trained(model, player, batch)
        model.eval()
        with torch.no_grad():
            return values | drawn(model, batch)


@cache
def written():
    """What values.yaml has."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def rounded(value):
    """The same with numbers of seven digits."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def trained(model, player, batch):
    """The loss of a player at two steps with its terms, and its gradient."""
    values = {}
    for step in (0, 1):
        loss = model.loss(batch, player, step, seeded(3 + step))
        parts = torch.stack([loss.total, *loss.terms.values()])
        values[f"{player} {step}"] = numbers(parts)
    slopes = torch.autograd.grad(loss.total, model.players()[player], allow_unused=True)
    return values | {f"{player} gradient": numbers(torch.cat([s.flatten() for s in slopes if s is not None]))}


def drawn(model, batch):
    """Samples, and what else the model can compute from images and codes."""
    condition = Condition(labels=batch.labels[:3], texts=batch.texts[:3], images=batch.source[:3])
    values = {"sample": numbers(model.sample(3, seeded(4), condition))}
    for name, arguments in (
        ("log_prob", ()), ("log_prob_bound", ()), ("log_prob_importance", (3,)),
    ):  # fmt: skip
        if hasattr(model, name):
            nats = getattr(model, name)(batch.pixels, *arguments, gen=seeded(6))
            values[name] = [*numbers(nats), nats.element_size()]
    if hasattr(model, "log_prob_estimate"):
        values["log_prob_estimate"] = numbers(model.log_prob_estimate(batch.pixels[:2], gen=seeded(6), steps=2))
    if hasattr(model, "encode"):
        values["encode"] = numbers(model.encode(batch.x))
    if hasattr(model, "invert"):
        values["invert"] = numbers(model.invert(batch.x))
    if hasattr(model, "decode") and hasattr(model, "noise"):
        values["decode"] = numbers(model.decode(model.noise(2, seeded(7))))
    return values


def exported(case):
    """What diffusers is given of a model for square images, as text, without its weights."""
    kind, config, sampler = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = awake(kind(SQUARE, kind.Config(**config | {"steps": 8} if "steps" in config else config),
                           kind.Sampler(**sampler) if sampler else None))  # fmt: skip
    try:
        parts = model.for_diffusers()
    except ModelError as error:
        return {"refused": str(error)}
    every = {"pipeline": f"{parts.pipeline} {parts.call} {parts.further}"}
    for name, part in parts.parts.items():
        options = {k: [float(f"{x:.6g}") for x in v] if k == "trained_betas" else v for k, v in part.settings.items()}
        every[name] = f"{part.kind} {options}"
    return every


@pytest.mark.parametrize("case", CASES)
def test_values_have_not_changed(case):
    expected = written()["models"][case]
    found = computed(case)
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-3, abs=2e-5), name


@pytest.mark.parametrize("case", EXPORTED)
def test_parts_for_diffusers_have_not_changed(case):
    assert exported(case) == written()["diffusers"][case]


if __name__ == "__main__":
    every = {
        "models": {case: computed(case) for case in CASES},
        "diffusers": {case: exported(case) for case in EXPORTED},
    }
    text = yaml.safe_dump(rounded(every), sort_keys=False, width=120, default_flow_style=None)
    FILE.write_text("# Written by tests/zoo/test_values.py.\n" + text, encoding="utf-8")
