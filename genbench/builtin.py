"""What genbench ships, by short name: where each object is, one line about it, and the options of a dataset.

These tables let `genbench --help`, a suite and its JSON Schema know every name without importing torch. The objects
themselves are loaded by `genbench.registry` when something uses them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

from genbench.options import NoOptions

NO_PATH = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def is_path(text: str) -> bool:
    """Whether text may be a path: it is not empty and has no control characters or line ends."""
    return bool(text) and NO_PATH.search(text) is None


Side = Annotated[int, Ge(1)]
Size = Annotated[Side | tuple[Side, Side] | None, "a side in pixels, or [height, width]"]
Location = Annotated[str, Predicate(is_path), "a path"]


@dataclass(frozen=True)
class DownloadOptions:
    """download: allows fetching the dataset when it is not on this machine."""

    download: bool = False


@dataclass(frozen=True)
class ArchiveOptions:
    """path: another archive in the same format. download: allows fetching the published one."""

    path: Location | None = None
    download: bool = False


@dataclass(frozen=True)
class EdgesOptions:
    """of: the dataset whose images the translation task is made from. download: allows fetching that dataset."""

    of: Literal["digits", "fashion-mnist"]
    download: bool = False


@dataclass(frozen=True)
class FolderOptions:
    """path: a folder of pictures, an archive (.zip, .tar, .tar.gz), or a folder of archives.

    size: a side in pixels, or [height, width], to which every picture is brought (default: as they are). fit: how:
    crop (the shorter side is resized and the middle kept), stretch, or pad. labels: auto (a label column, a .cls file
    beside each picture, or folders with names), folders, or none. captions: a .csv, .jsonl or .txt below path (default:
    the tables in it and its folders, or a .txt beside each picture). split: auto (folders train and test where there
    are any, else hash), folders, hash (a tenth by the hash of the pixels), or share. test_share: the share that is held
    out by split share. split_seed: of its random choice.
    """

    path: Location
    size: Size = None
    fit: Literal["crop", "stretch", "pad"] = "crop"
    labels: Literal["auto", "folders", "none"] = "auto"
    captions: Location | None = None
    split: Literal["auto", "folders", "hash", "share"] = "auto"
    test_share: Annotated[float, Gt(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class FacesOptions:
    """size: a side in pixels, or [height, width]. fit: as of `folder`."""

    size: Side | tuple[Side, Side] = 64
    fit: Literal["crop", "stretch", "pad"] = "crop"


@dataclass(frozen=True)
class PhotosOptions:
    """path: a folder with the published archives, or with train and val, below which each class has a folder.

    size, fit: as of `folder`.
    """

    path: Location
    size: Side | tuple[Side, Side] = 64
    fit: Literal["crop", "stretch", "pad"] = "crop"


@dataclass(frozen=True)
class DomainsOptions:
    """path: a folder with trainA, trainB, testA, testB; or with train and test (or val) of two pictures side by side.

    direction: a_to_b translates A, or the left picture, into B.
    """

    path: Location
    size: Size = None
    fit: Literal["crop", "stretch", "pad"] = "crop"
    direction: Literal["a_to_b", "b_to_a"] = "a_to_b"


@dataclass(frozen=True)
class HubOptions:
    """path: a folder that `Dataset.save_to_disk` wrote, a .parquet file, or a folder of them.

    image_column, text_column, label_column: their names (default: those of these types or names).
    """

    path: Location
    image_column: str = ""
    text_column: str = ""
    label_column: str = ""
    size: Size = None
    fit: Literal["crop", "stretch", "pad"] = "crop"
    labels: Literal["auto", "none"] = "auto"
    split: Literal["auto", "folders", "hash", "share"] = "auto"
    test_share: Annotated[float, Gt(0), Lt(1)] = 0.1
    split_seed: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class ArrayOptions:
    """path: an .npz or .npy file. levels: number of grey levels of its values."""

    path: Location
    levels: Annotated[int, Ge(2), Le(256)] = 256


@dataclass(frozen=True)
class TorchScriptOptions:
    """How the input of a TorchScript network is made from pixels.

    scaling: unit is [0, 1], symmetric [-1, 1], bytes 0..255, imagenet the mean and standard deviation of ImageNet,
    given those in mean and std, which are for pixels in [0, 1]. size: side length in pixels (default: no resizing).
    channels: of its input.
    """

    scaling: Literal["unit", "symmetric", "bytes", "imagenet", "given"]
    size: Annotated[int, Ge(1)] | None = None
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class BuiltIn:
    """target: `module:Object`, where Object may be a mapping from names to objects. options: of a dataset or an
    extractor. imports: slow modules that a dataset needs.
    """

    target: str
    about: str
    options: type = NoOptions
    imports: tuple[str, ...] = ()


MODEL_TABLE = {
    "cgan": BuiltIn("zoo.cgan:CGAN", "conditional GAN: draws images of a given class (Mirza and Osindero 2014)"),
    "cyclegan": BuiltIn("zoo.cyclegan:CycleGAN", "unpaired image translation in both directions (Zhu et al. 2017)"),
    "dcgan": BuiltIn("zoo.dcgan:DCGAN", "convolutional GAN (Radford et al. 2016)"),
    "ddim": BuiltIn("zoo.ddim:DDIM", "DDPM's network, sampled in few steps (Song et al. 2021)"),
    "ddpm": BuiltIn("zoo.ddpm:DDPM", "denoising diffusion model (Ho et al. 2020)"),
    "edm": BuiltIn("zoo.edm:EDM", "diffusion with preconditioning, sampled by Heun's method (Karras et al. 2022)"),
    "flow_matching": BuiltIn(
        "zoo.flow_matching:FlowMatching", "flow from noise to images on straight paths (Lipman et al. 2023)"
    ),
    "gan": BuiltIn("zoo.gan:GAN", "generative adversarial network of fully connected layers (Goodfellow et al. 2014)"),
    "glow": BuiltIn("zoo.glow:Glow", "normalizing flow with invertible 1x1 convolutions (Kingma and Dhariwal 2018)"),
    "latent_diffusion": BuiltIn(
        "zoo.latent_diffusion:LatentDiffusion",
        "diffusion in an autoencoder's latents, from a caption (Rombach et al. 2022)",
    ),
    "mean_flow": BuiltIn(
        "zoo.mean_flow:MeanFlow",
        "flow whose average velocity is learned: samples from one evaluation (Geng et al. 2025)",
    ),
    "pixelcnn": BuiltIn("zoo.pixelcnn:PixelCNN", "autoregressive model with an exact mass (Salimans et al. 2017)"),
    "realnvp": BuiltIn("zoo.realnvp:RealNVP", "normalizing flow of affine couplings (Dinh et al. 2017)"),
    "stylegan": BuiltIn("zoo.stylegan:StyleGAN", "style-based GAN, StyleGAN2 (Karras et al. 2020)"),
    "vae": BuiltIn("zoo.vae:VAE", "variational autoencoder (Kingma and Welling 2014)"),
}

DATASET_TABLE = {
    "digits": BuiltIn(
        "genbench.data.declared:DIGITS",
        "scikit-learn's 1,797 digits, 8x8, 17 grey levels; no download",
        imports=("sklearn.datasets",),
    ),
    "fashion-mnist": BuiltIn(
        "genbench.data.declared:FASHION_MNIST", "70,000 grey images of clothes, 28x28, 256 levels", DownloadOptions
    ),
    "cifar10": BuiltIn(
        "genbench.data.declared:CIFAR10", "60,000 colour photographs of ten things, 32x32, 256 levels", ArchiveOptions
    ),
    "mnist": BuiltIn(
        "genbench.data.declared:MNIST", "70,000 grey images of handwritten digits, 28x28", DownloadOptions
    ),
    "cifar100": BuiltIn(
        "genbench.data.declared:CIFAR100", "60,000 colour photographs of a hundred things, 32x32", DownloadOptions
    ),
    "svhn": BuiltIn(
        "genbench.data.declared:SVHN", "99,289 photographs of house numbers, 32x32", DownloadOptions, ("scipy.io",)
    ),
    "stl10": BuiltIn("genbench.data.declared:STL10", "13,000 colour photographs of ten things, 96x96", DownloadOptions),
    "celeba": BuiltIn("genbench.data.declared:CELEBA", "182,637 colour photographs of faces, any size", FacesOptions),
    "imagenet": BuiltIn(
        "genbench.data.declared:IMAGENET",
        "ImageNet, its archives or its folders train and val, any size",
        PhotosOptions,
    ),
    "edges": BuiltIn(
        "genbench.data.declared:EDGES",
        "translation task between images and their edges, unpaired, of digits or fashion-mnist",
        EdgesOptions,
        ("sklearn.datasets",),
    ),
    "folder": BuiltIn("genbench.data.declared:FOLDER", "your own images in a folder or in archives", FolderOptions),
    "domains": BuiltIn(
        "genbench.data.declared:DOMAINS", "translation task between your own images, paired or not", DomainsOptions
    ),
    "hf": BuiltIn("genbench.data.declared:HF", "a dataset in Hugging Face's format on this machine", HubOptions),
    "npz": BuiltIn("genbench.data.declared:NPZ", "your own array of images", ArrayOptions),
}

ADAPTER_TABLE = {
    "command": BuiltIn("genbench.adapters.programs:COMMAND", "a program that writes images"),
    "diffusers": BuiltIn("genbench.adapters.pipelines:DIFFUSERS", "a pipeline of diffusers"),
    "onnx": BuiltIn("genbench.adapters.onnx_graphs:ONNX", "a generator as an ONNX graph"),
    "torchscript": BuiltIn("genbench.adapters.torch_graphs:TORCHSCRIPT", "a generator as TorchScript or .pt2"),
}

METRIC_LINES = {
    "fid": "Fréchet distance of Gaussians fitted to features",
    "fd_infinity": "Fréchet distance extrapolated to infinitely many samples",
    "sfid": "Fréchet distance of spatial features, which keep positions in the image",
    "kid": "squared kernel distance (MMD) of features, all pairs",
    "kid_subsets": "the same kernel distance, averaged over random subsets",
    "cmmd": "squared kernel distance (MMD) of CLIP embeddings, Gaussian kernel, times 1000",
    "mind": "sliced squared Wasserstein distance of features",
    "is": "inception score: confident and diverse class probabilities",
    "precision": "share of samples that lie near real features",
    "recall": "share of real images that lie near sample features",
    "density": "how many neighbourhoods of real features contain a sample",
    "coverage": "share of real neighbourhoods that contain a sample",
    "clipped_density": "share of samples near real ones, not fooled by outliers: falls linearly with bad samples",
    "clipped_coverage": "share of real neighbourhoods filled, on the scale of the share of good samples",
    "vendi": "effective number of different samples",
    "rke": "effective number of different samples, rare ones counting little (Renyi entropy of order 2)",
    "sliced_wasserstein": "Wasserstein-2 distance of pixels, averaged over projections",
    "confidence": "mean probability of the most probable class",
    "rarest_class": "share of the class that the samples show least often",
    "memorised": "share of samples that are nearly copies of training images",
    "authenticity": "share of samples farther from the nearest training image than its own neighbour is",
    "ct_score": "data-copying test of Meehan et al. 2020; negative values mean copying",
    "fld": "how badly a mixture around the samples predicts held-out images; penalises copies too",
    "class_accuracy": "share of samples that the classifier assigns to the requested class",
    "prompt_agreement": "share of samples that the classifier assigns to the class of the requested caption",
    "clip_score": "how similar CLIP's embeddings of samples and of their prompts are: 2.5 times the cosine",
    "clip_agreement": "share of samples whose own prompt is nearest to them by CLIP, among up to 100 prompts",
    "per_class_fid": "Fréchet distance within each class, averaged",
    "cas": "accuracy on real images of a classifier trained on samples only",
    "cycle_error": "mean absolute error after translating there and back",
    "paired_l1": "mean absolute error to the true translation",
    "paired_ssim": "structural similarity to the true translation",
    "paired_lpips": "perceptual distance to the true translation",
    "fid_a_to_b": "Fréchet distance of images translated from A to B",
    "fid_b_to_a": "Fréchet distance of images translated from B to A",
    "ppl": "perceptual path length: how much an image changes for a small step in latent space",
    "bits_per_dim": "negative log-likelihood of held-out images, exact or a bound",
    "bits_per_dim_iwae": "the same by the importance-weighted bound",
    "bits_per_dim_ode": "the same, estimated by the probability-flow ODE",
    "images_per_second": "throughput of drawing samples in batches",
    "latency": "time to draw one image",
    "evaluations": "network evaluations for one image",
    "parameters": "number of trainable values",
    "peak_memory": "memory needed to draw one batch",
}
METRIC_TABLE = {name: BuiltIn("genbench.metrics:BUILT_IN", about) for name, about in METRIC_LINES.items()}

CLIP_LINE = "CLIP's image encoder (OpenAI): image embedding"
DINOV2_LINE = "DINOv2's vision transformer (Meta): normalised class token"
PRETRAINED_LINES = {
    "inception-v3-compat": "Inception of published FIDs (TensorFlow 2015-12-05): pool3, probabilities, spatial map",
    "vgg16": "VGG16 of torchvision (ImageNet): fc2 after ReLU",
    **dict.fromkeys(
        (
            "clip-rn50", "clip-rn101", "clip-rn50x4", "clip-rn50x16", "clip-rn50x64", "clip-vit-b-32", "clip-vit-b-16",
            "clip-vit-l-14", "clip-vit-l-14-336px",
        ),
        CLIP_LINE,
    ),
    **dict.fromkeys(("dinov2-vit-s-14", "dinov2-vit-b-14", "dinov2-vit-l-14"), DINOV2_LINE),
}  # fmt: skip
EXTRACTOR_TABLE = {
    "classifier": BuiltIn(
        "genbench.features.declared:CLASSIFIER_SOURCE",
        "the small classifier shipped for the dataset; its numbers compare only with each other",
    ),
    "pixels": BuiltIn("genbench.features.declared:PIXELS_SOURCE", "raw pixels in [0, 1]; no class probabilities"),
    "clip": BuiltIn(
        "genbench.features.declared:CLIP_SOURCE",
        "a CLIP of transformers in a folder, named by `weights`: embeds images and texts",
    ),
    "torchscript": BuiltIn(
        "genbench.features.declared:TORCHSCRIPT_SOURCE",
        "a network of your own in a TorchScript file, named by `weights`",
        TorchScriptOptions,
    ),
    **{
        name: BuiltIn("genbench.features.declared:PRETRAINED_SOURCES", about)
        for name, about in PRETRAINED_LINES.items()
    },
}
