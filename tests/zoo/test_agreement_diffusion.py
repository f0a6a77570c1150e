"""DDPM and DDIM take diffusers' steps, and the U-Net reads a diffusers file and gives its output.

The schedulers' tables and arithmetic are theirs; the tables are lent our float64 alpha_bar once they have been found
equal to float32, in which 1 - alpha_bar loses half its digits. Where the two differ by design:
- theirs clip x_0 and keep the network's eps in a DDIM step unless use_clipped_model_output says otherwise; ours never;
- their "leading" and "trailing" times and the step between them agree with ours where the steps S divide T;
- their inversion asks the network about x at the time it goes to, ours at the time it has.
"""

import pytest
import torch
from diffusion_worlds import denoiser
from safetensors.torch import load_file

from genbench.contract import DataSpec
from genbench.space import seeded
from zoo import ddim, ddpm
from zoo.ddim import DDIM, ImplicitSampler, implicit, inverted, timesteps
from zoo.ddpm import AncestralSampler, Config, ancestral
from zoo.denoising import Schedule, cosine_betas, linear_betas
from zoo.nets import UNet
from zoo.portable import from_diffusers

diffusers = pytest.importorskip("diffusers", reason="an optional peer")

SCHEDULES = {
    "linear": (Schedule(linear_betas(1000, 1e-4, 0.02)), "linear"),
    "cosine": (Schedule(cosine_betas(1000)), "squaredcos_cap_v2"),
}
KINDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}


def peer(kind, name, **options):
    """A scheduler of diffusers and our schedule of that name, which it shares in full precision."""
    schedule, theirs = SCHEDULES[name]
    scheduler = kind(1000, 1e-4, 0.02, theirs, **options)
    assert torch.allclose(scheduler.alphas_cumprod.double(), schedule.alpha_bar, rtol=2e-3, atol=2e-7)
    scheduler.alphas_cumprod = schedule.alpha_bar
    return scheduler, schedule


class Said:
    """A network that is no one's: says something smooth of x and t, and keeps every (x, t, what it said)."""

    def __init__(self, channels):
        self.channels, self.seen = channels, []

    def __call__(self, x, t):
        said = torch.cat([(1.5 * x).tanh() + 0.1 * torch.cos(t / 100).view(-1, 1, 1), 0.7 * (3 * x).sin()], dim=1)
        self.seen.append((x.clone(), int(t[0]), said[:, : self.channels]))
        return self.seen[-1][2]


class Noises:
    """Stands for the noise of a chain, and keeps what it gave."""

    def __init__(self, monkeypatch, module):
        self.gen, self.given = seeded(7), []
        monkeypatch.setattr(module, "gaussian_noise", self.draw)

    def draw(self, shape, gen):
        self.given.append(torch.randn(shape, generator=self.gen, dtype=torch.float64))
        return self.given[-1].clone()


def start():
    return torch.randn(2, 1, 6, generator=seeded(0), dtype=torch.float64)


def steps_of(said, end):
    """(x before, time, what was said, x after) of every step of a chain."""
    after = [x for x, _, _ in said.seen[1:]] + [end]
    return [(*seen, following) for seen, following in zip(said.seen, after, strict=True)]


# ---- DDPM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_ddpm_takes_diffusers_steps(monkeypatch, variance, kind, clip, name):
    options = {"variance_type": VARIANCES[variance], "clip_sample": clip, "prediction_type": KINDS[kind]}
    scheduler, schedule = peer(diffusers.DDPMScheduler, name, **options)
    ours, said = Noises(monkeypatch, ddpm), Said(2 if variance == "learned" else 1)
    end = ancestral(denoiser(said, schedule, kind), start(), AncestralSampler(variance, clip), seeded(0))
    taken = steps_of(said, end)
    assert [t for _, t, _, _ in taken] == scheduler.timesteps.tolist()
    assert len(ours.given) == 999  # neither draws noise in the last step
    for i in [*range(10), *range(10, 990, 20), *range(990, 1000)]:
        x, t, output, after = taken[i]
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, i=i, **__: ours.given[i])
        assert torch.allclose(after, scheduler.step(output, t, x).prev_sample, rtol=1e-9, atol=1e-9), t


# ---- DDIM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("spacing", "theirs"), [("uniform", "leading"), ("trailing", "trailing")])
@pytest.mark.parametrize("steps", [1, 20, 1000])
def test_ddim_visits_diffusers_times(steps, spacing, theirs, name):
    scheduler, _ = peer(diffusers.DDIMScheduler, name, timestep_spacing=theirs)
    scheduler.set_timesteps(steps)
    assert timesteps(1000, steps, spacing)[::-1] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("spacing", "theirs"), [("uniform", "leading"), ("trailing", "trailing")])
@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_takes_diffusers_steps(monkeypatch, eta, kind, clip, spacing, theirs, name):
    options = {"clip_sample": clip, "prediction_type": KINDS[kind], "timestep_spacing": theirs}
    scheduler, schedule = peer(diffusers.DDIMScheduler, name, **options)
    scheduler.set_timesteps(20)
    noises, said = Noises(monkeypatch, ddim), Said(1)
    times = timesteps(1000, 20, spacing)
    end = implicit(denoiser(said, schedule, kind), start(), times, ImplicitSampler(20, eta, spacing, clip), seeded(0))
    assert len(noises.given) == (19 if eta else 0)
    noises.given.append(torch.zeros_like(end))  # of the last step, which has none to add
    for i, (x, t, output, after) in enumerate(steps_of(said, end)):
        given = {"variance_noise": noises.given[i]} if eta else {}
        expected = scheduler.step(output, t, x, eta, use_clipped_model_output=True, **given).prev_sample
        assert torch.allclose(after, expected, rtol=1e-7, atol=1e-7), t


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_inverts_by_diffusers_steps(kind, name):
    """From the second step on: where x has no noise, theirs divides by its size unless eps is predicted."""
    options = {"clip_sample": False, "prediction_type": KINDS[kind]}
    scheduler, schedule = peer(diffusers.DDIMInverseScheduler, name, **options)
    scheduler.set_timesteps(20)
    said, times = Said(1), timesteps(1000, 20, "uniform")
    end = inverted(denoiser(said, schedule, kind), start() / 3, times)
    for (x, _, output, after), t in list(zip(steps_of(said, end), times, strict=True))[1:]:
        assert torch.allclose(after, scheduler.step(output, t, x).prev_sample, rtol=1e-9, atol=1e-9), t


# ---- the U-Net --------------------------------------------------------------------------------------------------


def checkpoint(folder, width, padding=0):
    """A random model with the structure of google/ddpm-cifar10-32, and the file it saves: (model, its tensors)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = diffusers.UNet2DModel(
            sample_size=32, block_out_channels=(width, 2 * width, 2 * width, 2 * width), layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None,
            norm_eps=1e-6, flip_sin_to_cos=False, freq_shift=1, downsample_padding=padding,
        ).eval()  # fmt: skip
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=gen))
    model.save_pretrained(folder)
    return model, load_file(folder / "diffusion_pytorch_model.safetensors")


def same_output(ours, theirs):
    x, t = torch.randn(2, 3, 32, 32, generator=seeded(1)), torch.tensor([7, 912])
    with torch.no_grad():
        found, expected = ours.eval()(x, t), theirs(x, t).sample
    assert float(expected.std()) > 0.1
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("theirs", "ours"), [(0, "after"), (1, "around")])
def test_u_net_reads_a_diffusers_file(tmp_path, theirs, ours):
    model, state = checkpoint(tmp_path, 32, theirs)
    net = UNet((3, 32, 32), 32, (1, 2, 2, 2), 2, (16,), padding=ours)
    net.load_state_dict(from_diffusers(state))
    same_output(net, model)


@pytest.mark.slow
def test_u_net_of_the_papers_width_reads_a_diffusers_file(tmp_path):
    model, state = checkpoint(tmp_path, 128)
    net = DDIM(DataSpec(3, 32, 32)).network
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in model.parameters()) == 35_746_307
    net.load_state_dict(from_diffusers(state))
    same_output(net, model)


def test_older_files_call_the_attention_otherwise(tmp_path):
    _, state = checkpoint(tmp_path, 32)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state.items():
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = tensor
    assert renamed.keys() != state.keys()
    expected, found = from_diffusers(state), from_diffusers(renamed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_ddim_with_the_papers_config_draws_what_diffusers_draws(tmp_path, monkeypatch):
    """The whole model, float32, four steps from the same noise."""
    theirs, state = checkpoint(tmp_path, 32)
    model = DDIM(DataSpec(3, 32, 32), Config(channels=32), ImplicitSampler(steps=4)).eval()
    model.network.load_state_dict(from_diffusers(state))
    x = torch.randn(2, 3, 32, 32, generator=seeded(2))
    monkeypatch.setattr(ddim, "gaussian_noise", lambda shape, gen: x.clone())
    scheduler, _ = peer(diffusers.DDIMScheduler, "linear")
    scheduler.set_timesteps(4)
    z = x.double()
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = theirs(z.float(), t).sample
            z = scheduler.step(output, int(t), z, use_clipped_model_output=True).prev_sample
        assert torch.allclose(model.sample(2, seeded(0)), z.clamp(-1, 1).float(), atol=1e-3)
