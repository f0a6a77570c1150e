"""Latent diffusion (Rombach, Blattmann, Lorenz, Esser and Ommer, CVPR 2022, arXiv:2112.10752), as in Stable Diffusion.

Stage 1 (section 3.1, appendix G): an autoencoder with a Gaussian posterior q(z|x) = N(E_mu(x), E_sigma(x)^2), which
halves the sides a few times. Its loss, summed over an image and averaged over the batch, follows the released code
(that of Esser et al. 2021, arXiv:2012.09841, VQGAN; their eq. 7 has 1e-6, their code 1e-4):

    |x - D(z)|_1 + perceptual d(x, D(z)) + kl KL(q(z|x) || N(0, I)) - adversarial lambda mean C(D(z)),  z ~ q(z|x)
    lambda = |grad of the first two| / (|grad of mean C(D(z))| + 1e-4), at D's last layer           (VQGAN, eq. 7)

The critic C scores patches and minimises the hinge loss (mean max(0, 1 - C(x)) + mean max(0, 1 + C(D(z)))) / 2.

Stage 2 (sections 3.2 and 3.3): E and D are fixed. Latents z = scale E(x), scale = 1 / standard deviation of the first
batch of stage 2 (appendix G), are diffused as in DDPM. The U-Net receives the noisy latent, the time and, by
cross-attention, the tokens tau(y) of a text y; the transformer that computes tau(y) is trained with it. They minimise
|eps - eps_theta(z_t, t, tau(y))|^2 (eq. 3), or the same error of v = sqrt(a_t) eps - sqrt(1 - a_t) z_0 (Salimans and Ho
2022, arXiv:2202.00512, appendix D). One text in ten is replaced by the empty text, which makes guidance possible (Ho
and Salimans 2022, arXiv:2207.12598, eq. 6):

    eps = eps_theta(z_t, t, tau("")) + guidance (eps_theta(z_t, t, tau(y)) - eps_theta(z_t, t, tau("")))

where guidance is their 1 + w. Samples are D(z / scale), where z is the end of a DDIM chain (Song et al. 2021,
arXiv:2010.02502, eq. 12).

Deviations
- d(x, y) is the mean distance of the critic's features (as in Larsen et al. 2016, arXiv:1512.09300); the paper uses
  LPIPS, a network trained on photographs and human judgements. This needs no download, and grey 8x8 images are not
  photographs. Therefore the critic trains from the first step, and only the term -C(D(z)) starts at critic_start.
- The critic has group normalisation, the released one batch normalisation: here no image depends on another.
- A small transformer reads text as bytes; the paper uses a BERT vocabulary, Stable Diffusion a frozen CLIP encoder.
  With config.released text encoder and U-Net are Stable Diffusion's, whose weights can be read (zoo.stable_diffusion).
- The chain starts at t = T - 1 and ends without noise (Lin et al. 2023, arXiv:2305.08891, section 3.3); with spacing
  "leading", as Stable Diffusion's, it starts at T - T / S + 1 and ends with the first step's noise. zero_terminal is
  Lin et al.'s Algorithm 1.
- Both stages have averaged weights (EMA), the same batch size, and Adam's usual betas without weight decay (released
  code: 0.5 and 0.9 in the first stage, AdamW with 0.01 in the second).
- Below 256 pixels everything is smaller and "v" is predicted; kl is larger, because the short second stage needs a
  smooth latent space, and adversarial is smaller: on 8x8 digits a weight of 0.5 makes reconstructions worse within the
  first stage's few hundred steps.

Symbols   x images (B, C, H, W)   z, z_0 latents (B, c, h, w)   z_t noisy latents   t time (B,) from 0   y B texts
          tau(y) (B, L, D)   alpha_bar_t schedule.alpha_bar[t]; signal is its root, spread the root of 1 - alpha_bar_t
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    DiffusersParts,
    Encodes,
    Loss,
    Model,
    Recipe,
    Share,
    Stage,
    Steps,
    TextConditional,
    Weight,
    across_processes,
    mean_across_processes,
)
from genbench.errors import ModelError
from genbench.space import to_device
from zoo.attention import ConditionalUNet, Decoder, Encoder, PatchCritic, SharedTokens, TextEncoder
from zoo.ddim import ImplicitSampler, chain_places, implicit_step
from zoo.ddpm import Beta
from zoo.denoising import (
    PREDICTIONS,
    Denoiser,
    Schedule,
    gaussian_noise,
    q_sample,
    run,
    scaled_linear_betas,
    without_signal,
)
from zoo.gan import hinge
from zoo.nets import affordable, halvings, kl_to_prior, posterior_draw
from zoo.portable_latent import pipeline_parts
from zoo.stable_diffusion import HEAD, ClipText, from_pipeline, is_pipeline, refuse_other_pipeline


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """Sizes and constants; the defaults are Stable Diffusion's (version 1, 512x512 pixels).

    First stage. latent: channels of z. width: of the autoencoder at full resolution. depths: multipliers of the width
    at each resolution; the sides are halved once less than their number. depth_blocks: residual blocks at each
    resolution. kl, perceptual, adversarial: weights in the loss. critic_start: first step with the adversarial term.
    critic_width, critic_halvings: sizes of the critic.
    Diffusion. steps: T. beta_first, beta_last: ends of the schedule. zero_terminal: the last step has no signal.
    prediction: the U-Net's target, "eps" or "v" (Stable Diffusion 2).
    U-Net. channels, multipliers, blocks, attention, heads: as in zoo.attention.ConditionalUNet.
    Text. text_width, text_layers, text_length: width, depth and bytes of the text encoder. text_dropout: probability
    that a training text is replaced by the empty text. groups: largest number of groups of a normalisation.
    released: U-Net and text encoder compute what Stable Diffusion 1's compute; text_length and `vocabulary` are then
    tokens of CLIP.
    """

    latent: Count = 4
    width: Count = 128
    depths: tuple[Count, ...] = (1, 2, 4, 4)
    depth_blocks: Count = 2
    kl: Weight = 1e-6
    perceptual: Weight = 1.0
    adversarial: Weight = 0.5
    critic_start: Annotated[int, Ge(0)] = 50_000
    critic_width: Count = 64
    critic_halvings: Annotated[int, Ge(0)] = 3
    steps: Count = 1000
    beta_first: Beta = 0.00085
    beta_last: Beta = 0.012
    zero_terminal: bool = False
    prediction: Literal["eps", "v"] = "eps"
    channels: Count = 320
    multipliers: tuple[Count, ...] = (1, 2, 4, 4)
    blocks: Count = 2
    attention: tuple[Count, ...] = (64, 32, 16)
    heads: Count = 8
    text_width: Count = 768
    text_layers: Annotated[int, Ge(0)] = 12
    text_length: Count = 77
    text_dropout: Share = 0.1
    groups: Count = 32
    released: bool = False
    vocabulary: Count = 49_408

    def __post_init__(self) -> None:
        if self.zero_terminal and self.prediction == "eps":
            reason = "without signal, a prediction of eps does not determine the image"
            raise ValueError(f"prediction: found 'eps', allowed: v with zero_terminal ({reason})")


@dataclass(frozen=True)
class GuidedSampler:
    """Options of guided sampling.

    steps: of the DDIM chain, up to T; Stable Diffusion 50. eta: noise, from 0 (none) to 1. guidance: 0 ignores the
    text, 1 samples the trained conditional model, larger values follow the text more and reduce variety; Stable
    Diffusion 7.5. Values other than 0 and 1 need two evaluations per step. spacing: of the chain's times, "trailing"
    or Stable Diffusion's, "leading".
    """

    steps: Count = 20
    eta: Share = 0.0
    guidance: float = 1.5
    spacing: Literal["trailing", "leading"] = "trailing"


# ---- first stage ------------------------------------------------------------------------------------------------


def feature_distance(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of two lists of features (B, ...): a scalar."""
    return torch.stack([(a - b).abs().mean() for a, b in zip(x, y, strict=True)]).mean()


def balance(reconstruction: Tensor, adversarial: Tensor, weight: Tensor) -> Tensor:
    """Lambda (VQGAN, eq. 7): the ratio of the two losses' gradient norms at `weight`, a scalar without gradient."""
    losses = reconstruction, adversarial
    gradients = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses)
    of_reconstruction, of_adversarial = (mean_across_processes(gradient).norm() for gradient in gradients)
    return (of_reconstruction / (of_adversarial + 1e-4)).clamp(0, 1e4).detach()


# ---- diffusion of latents ---------------------------------------------------------------------------------------


def make_schedule(config: LatentDiffusionConfig) -> Schedule:
    """The forward process of a config."""
    beta = scaled_linear_betas(config.steps, config.beta_first, config.beta_last)
    return Schedule(without_signal(beta) if config.zero_terminal else beta)


def guided(with_text: Callable[[], Tensor], without: Callable[[], Tensor], guidance: float) -> Tensor:
    """Returns without + guidance (with_text - without) (Ho and Salimans, eq. 6); terms of weight 0 are not evaluated.

    The same formula holds for predictions of v, because at fixed z_t eps is an affine function of v.
    """
    if guidance == 1:
        return with_text()
    if guidance == 0:
        return without()
    base = without()
    return base + guidance * (with_text() - base)


# ---- model ------------------------------------------------------------------------------------------------------


def small_networks(data: DataSpec, halved: int) -> LatentDiffusionConfig:
    """Narrow networks for latents whose sides are those of the images, halved so often."""
    height, levels = data.height >> halved, min(halvings(data.height, data.width) - halved, 1) + 1
    config = LatentDiffusionConfig(
        latent=2, width=16, depths=(1, *(2,) * halved), depth_blocks=1, kl=1e-2, adversarial=0.1,
        critic_start=100, critic_width=16, critic_halvings=1, prediction="v", channels=32,
        multipliers=(1, 2)[:levels], blocks=1, attention=(height, height // 2), heads=4,
        text_width=64, text_layers=2, text_length=32, groups=4,
    )  # fmt: skip
    if min(data.height, data.width) < 16:
        return config
    return replace(config, latent=4, critic_start=500, critic_halvings=2, channels=64, blocks=2)


class LatentDiffusion(Model, Steps, TextConditional, Encodes):
    """An autoencoder and a text-conditional diffusion in its latent space; without texts it is unconditional."""

    family = "diffusion"
    Config = LatentDiffusionConfig
    Sampler = GuidedSampler
    stages = (
        Stage("autoencoder", turns=("autoencoder", "critic"), share=1.0),
        Stage("diffusion", turns=("denoiser",), share=2.0),
    )
    components = ("unet", "vae", "text_encoder")
    scale: Tensor
    signal: Tensor
    spread: Tensor

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Builds all networks. Raises ModelError when the sides cannot be halved often enough for the config."""
        super().__init__(data, config, sampler)
        c = self.config
        self.shape = (c.latent, *latent_sides(data, c))
        if self.sampler.steps > c.steps:
            raise ModelError(
                f"LatentDiffusion: sampler.steps: found {self.sampler.steps}, allowed: at most config.steps, {c.steps}"
            )
        self.places = chain_places(c.steps, self.sampler.steps, self.sampler.spacing)
        if self.places[0][0] >= c.steps:
            allowed = f"at most {c.steps - 1} of {c.steps} with spacing 'leading'"
            raise ModelError(f"LatentDiffusion: sampler.steps: found {self.sampler.steps}, allowed: {allowed}")
        self.schedule, self.kind = make_schedule(c), PREDICTIONS[c.prediction]
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("signal", self.schedule.signal.float(), persistent=False)
        self.register_buffer("spread", self.schedule.spread.float(), persistent=False)
        autoencoder = (data.channels, c.latent, [c.width * m for m in c.depths], c.depth_blocks, c.groups)
        self.encoder, self.decoder = Encoder(*autoencoder), Decoder(*autoencoder)
        self.critic = PatchCritic(data.channels, c.critic_width, c.critic_halvings, c.groups)
        self.text: ClipText | TextEncoder
        if c.released:
            self.text = ClipText(c.text_length, c.text_width, c.text_layers, c.vocabulary)
        else:
            self.text = TextEncoder(c.text_length, c.text_width, c.text_layers, c.heads)
        self.network = ConditionalUNet(
            self.shape, c.channels, c.multipliers, c.blocks, c.attention, c.heads, c.text_width, c.groups, c.released
        )
        self.to(memory_format=torch.channels_last)

    @classmethod
    def preset(cls, data: DataSpec) -> LatentDiffusionConfig:
        """Stable Diffusion's sizes from 256 pixels, from 32 some between those and the small ones."""
        side, depth = min(data.height, data.width), halvings(data.height, data.width)
        if side < 32:
            return LatentDiffusion.small(data)[0]
        if side >= 256 and depth >= 6:
            return LatentDiffusionConfig(attention=(data.height // 8, data.height // 16, data.height // 32))
        config = small_networks(data, min(depth, 2))
        return replace(config, width=64, depth_blocks=2, critic_width=64, channels=128, heads=8, text_width=128)

    @classmethod
    def small(cls, data: DataSpec) -> tuple[LatentDiffusionConfig, Recipe]:
        """Small networks and latents of about 8x8 (4x4 for 8x8 pixels)."""
        side, depth = min(data.height, data.width), halvings(data.height, data.width)
        images, ema = (44_000, 0.99) if side < 16 else (affordable(data, 300_000, 59_000), 0.995)
        batch = 64 if side < 16 else 16
        recipe = Recipe(lr=2e-3, lrs=(("autoencoder", 4e-3), ("critic", 5e-4)), batch=batch, warmup=100, decay="cosine",
                        clip=1.0, ema=ema, images=images)  # fmt: skip
        return small_networks(data, min(depth, 1 if side < 16 else max(2, round(math.log2(side / 8))))), recipe

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Stable Diffusion's step size from 256 pixels; below, a training of minutes.

        The decay of the weights' average is short enough that within stage 2 the averaged autoencoder becomes equal to
        the final one, with which stage 2 is trained.
        """
        side = min(data.height, data.width)
        if side < 32:
            return LatentDiffusion.small(data)[1]
        if side >= 256:
            return Recipe(lr=1e-4, lrs=(("autoencoder", 5.4e-5), ("critic", 5.4e-5)), batch=2048, warmup=10_000,
                          ema=0.9999, images=500_000_000)  # fmt: skip
        return replace(
            LatentDiffusion.small(data)[1],
            lr=5e-4,
            lrs=(("autoencoder", 1e-3), ("critic", 1.25e-4)),
            batch=64,
            images=300_000,
        )

    def adopted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Weights of a Stable Diffusion 1 pipeline under the names of this model, with the critic as it is.

        Raises ModelError for a pipeline whose networks or process are not those of the config.
        """
        if not is_pipeline(state):
            return state
        c = self.config
        if not c.released:
            raise ModelError("a pipeline of diffusers; config.released: true builds the networks of Stable Diffusion 1")
        refuse_other_pipeline(settings, {
            "unet/config.json": {"attention_head_dim": c.heads, "norm_num_groups": c.groups},
            "vae/config.json": {"norm_num_groups": c.groups},
            "text_encoder/config.json": {"num_attention_heads": c.text_width // HEAD},
            "scheduler/scheduler_config.json": {
                "num_train_timesteps": c.steps, "beta_start": c.beta_first, "beta_end": c.beta_last,
                "prediction_type": {"eps": "epsilon", "v": "v_prediction"}[c.prediction],
                "rescale_betas_zero_snr": c.zero_terminal,
            },
        })  # fmt: skip
        critic = {name: tensor for name, tensor in self.state_dict().items() if name.startswith("critic.")}
        return {**from_pipeline(state, settings, len(c.depths), c.depth_blocks), **critic}

    def for_diffusers(self) -> DiffusersParts:
        """As StableDiffusionPipeline where the config is `released`, else as the pipeline of zoo.text_pipeline.

        Raises ModelError for steps that DDIMScheduler does not have, and guidance that StableDiffusionPipeline has not.
        """
        c, s = self.config, self.sampler
        if c.steps % s.steps:
            allowed = f"allowed for diffusers: a divisor of {c.steps}"
            raise ModelError(f"LatentDiffusion: sampler.steps: found {s.steps}, {allowed}")
        if c.released and s.guidance < 1:
            allowed = "allowed for StableDiffusionPipeline: at least 1"
            raise ModelError(f"LatentDiffusion: sampler.guidance: found {s.guidance:g}, {allowed}")
        return pipeline_parts(self)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of encoder and decoder, of the critic, and of the U-Net with the text encoder."""
        return {
            "autoencoder": [*self.encoder.parameters(), *self.decoder.parameters()],
            "critic": list(self.critic.parameters()),
            "denoiser": [*self.network.parameters(), *self.text.parameters()],
        }

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        return self.network

    @property
    def evaluations(self) -> int:
        """Two per step, or one if guidance is 0 or 1."""
        return self.sampler.steps * (1 if self.sampler.guidance in (0, 1) else 2)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss; the denoiser's first step measures the latents' scale."""
        if player == "denoiser":
            return self._denoiser_loss(batch, step, gen)
        return self._autoencoder_loss(batch, step, gen) if player == "autoencoder" else self._critic_loss(batch, gen)

    def _autoencoder_loss(self, batch: Batch, step: int, gen: Generator) -> Loss:
        c, x = self.config, batch.x
        mean, log_var = self.encoder(x)
        y = self.decoder(posterior_draw(mean, log_var, gaussian_noise(mean.shape, gen)))
        *features, scores = self.critic(y)
        with torch.no_grad():
            *real_features, _ = self.critic(x)
        pixels = (x - y).abs().flatten(1).sum(1).mean()
        reconstruction = pixels + c.perceptual * self.data.dims * feature_distance(real_features, features)
        kl, fooling = kl_to_prior(mean, log_var).mean(), -scores.mean()
        total = reconstruction + c.kl * kl
        if c.adversarial and step >= c.critic_start:
            total = total + c.adversarial * balance(reconstruction, fooling, self.decoder.last.weight) * fooling
        return Loss(total, {"l1": pixels / self.data.dims, "kl": kl, "fooling": fooling})

    def _critic_loss(self, batch: Batch, gen: Generator) -> Loss:
        with torch.no_grad():
            y = self.decoder(self.draw_code(batch.x, gen))
        real, fake = hinge(self.critic(batch.x)[-1], self.critic(y)[-1])
        total = 0.5 * (real + fake)
        return Loss(total, {"critic": total})

    def _denoiser_loss(self, batch: Batch, step: int, gen: Generator) -> Loss:
        with torch.no_grad():
            z = self.draw_code(batch.x, gen)
            if step == 0 and self.training:
                self.scale.copy_(1 / across_processes(z).std())
            z = z * self.scale
        t = torch.randint(self.config.steps, (len(z),), generator=gen, device=gen.device)
        noise, scales = gaussian_noise(z.shape, gen), [v[t].view(-1, 1, 1, 1) for v in (self.signal, self.spread)]
        text = self.read_dropped(batch.texts or ("",) * len(z), gen)
        prediction = self.network(q_sample(z, noise, *scales), t, text)
        error = (prediction - self.kind.target(z, noise, *scales)).square().mean()
        return Loss(error, {"mse": error})

    def draw_code(self, x: Tensor, gen: Generator) -> Tensor:
        """A draw from q(z|x), not multiplied by scale: (B, c, h, w)."""
        mean, log_var = self.encoder(x)
        return posterior_draw(mean, log_var, gaussian_noise(mean.shape, gen))

    def read_dropped(self, texts: tuple[str, ...], gen: Generator) -> SharedTokens:
        """The tokens tau(y) of B texts, of which random ones are replaced by the empty text."""
        keep = torch.rand(len(texts), generator=gen, device=gen.device) >= self.config.text_dropout
        if keep.device.type == "cpu":
            return self.read([text if kept else "" for text, kept in zip(texts, keep.tolist(), strict=True)])
        tokens, which = self.read((*texts, ""))  # reading `keep` on the CPU would wait for the device
        return SharedTokens(tokens, torch.where(keep[:, None], which[:-1], which[-1:]))

    def read(self, texts: Sequence[str]) -> SharedTokens:
        """The tokens tau(y) of the texts. Equal texts are encoded once."""
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        tokens = self.text(to_device(self.text.tokenise(tuple(row)), self.device))
        which = nn.functional.one_hot(torch.tensor([row[text] for text in texts]), len(row)).float()
        return SharedTokens(tokens, to_device(which, self.device))

    def encode(self, x: Tensor) -> Tensor:
        """The posterior's mean for images x in [-1, 1], times scale: (B, c, h, w)."""
        return self.scale * self.encoder(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents that encode() returns."""
        return self.decoder(z / self.scale).clamp(-1, 1)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1] for condition.texts; without texts, for the empty text."""
        texts = condition.texts if condition is not None and condition.texts is not None else ("",) * n
        text, empty = self.read(texts), self.read(("",) * n)

        def predict(z: Tensor, t: Tensor) -> Tensor:
            with_text, without = (lambda source=source: self.network(z, t, source) for source in (text, empty))
            return guided(with_text, without, self.sampler.guidance)

        sampler = ImplicitSampler(self.sampler.steps, self.sampler.eta, clip=False)
        denoiser = Denoiser(predict, self.schedule, self.kind)
        z = gaussian_noise((n, *self.shape), gen)
        return self.decode(run(lambda z, place: implicit_step(denoiser, z, *place, sampler, gen), z, self.places))


def latent_sides(data: DataSpec, config: LatentDiffusionConfig) -> tuple[int, int]:
    """Height and width of the latents. Raises ModelError when the image's sides cannot be halved that often."""
    times, most = len(config.depths) - 1, halvings(data.height, data.width)
    if times > most:
        raise ModelError(
            f"LatentDiffusion: config.depths: found {times + 1} numbers, allowed: at most {most + 1} for "
            f"{data.height}x{data.width} images"
        )
    return data.height >> times, data.width >> times
