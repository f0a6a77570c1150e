"""The pretrained extractors with random weights: torch-fidelity's numbers, and weights handled with care."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import blots, fill, write_clip, write_inception, write_vgg16
from safetensors.torch import save_file
from torch import Tensor, nn

from genbench import data, features, metrics
from genbench.errors import DataError
from genbench.features import FeatureOptions, similarity, weight_files
from genbench.features.dinov2 import SIZES, DinoV2
from genbench.features.inception import Inception
from genbench.features.resize import CLEAN, TF1, resize, to_bytes
from genbench.features.similarity import load_similarity
from genbench.features.weight_files import PUBLISHED_FILES, Published

INCEPTION, CLIP = "inception-v3-compat", "clip-vit-b-32"
N = 8
FAKE, REAL = blots(N, 1), 255 - blots(N, 2, cells=5)


@pytest.fixture(autouse=True)
def no_weights_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GENBENCH_WEIGHTS", "GENBENCH_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "no" / name))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("weights") / "clip.pth")


@pytest.fixture(scope="module")
def extracted(inception_file: Path) -> tuple[features.Features, features.Features]:
    """Features of FAKE and REAL, ours."""
    extractor = features.load_extractor(INCEPTION, "folder", "cpu", FeatureOptions(inception_file))
    return extractor(FAKE, 256), extractor(REAL, 256)


def relative(found: np.ndarray, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    return float(np.linalg.norm(found - expected.numpy()) / expected.norm())


def refusal(options: FeatureOptions, name: str = CLIP) -> str:
    with pytest.raises(DataError) as caught:
        features.load_extractor(name, "folder", "cpu", options)
    return str(caught.value)


class Listed(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Tensor:
        return self.pixels[i]


def test_inception_sees_what_torch_fidelitys_sees(
    inception_file: Path, extracted: tuple[features.Features, ...]
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3(
        INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )
    inside: list[Tensor] = []
    theirs.Mixed_6d.register_forward_hook(lambda _module, _given, made: inside.append(made))
    with torch.no_grad():
        vectors, logits = theirs(FAKE[:4])
    ours = extracted[0]
    assert ours.vectors.dtype == np.float32
    assert ours.vectors.std(0).mean() > 0.02 * ours.vectors.mean()  # the random network tells images apart
    assert ours.probabilities is not None
    assert ours.spatial is not None
    assert ours.spatial.shape == (N, 2023)
    assert relative(ours.vectors[:4], vectors) < 1e-6
    assert relative(ours.probabilities[:4], logits.double().softmax(1)) < 1e-5
    assert relative(ours.spatial[:4], inside[0][:, :7].flatten(1)) < 3e-6


def test_scores_are_those_of_torch_fidelity(inception_file: Path, extracted: tuple[features.Features, ...]) -> None:
    from torch_fidelity import calculate_metrics

    expected = calculate_metrics(
        input1=Listed(FAKE), input2=Listed(REAL), feature_extractor=INCEPTION,
        feature_extractor_weights_path=str(inception_file), isc=True, fid=True, kid=True, prc=True, kid_subset_size=6,
        isc_splits=2, cuda=False, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    fake, real = extracted
    both: dict[str, Any] = {"fake": fake.vectors, "real": real.vectors}
    near = {"rel": 1e-6}
    assert metrics.kernel_distance(**both, subsets=100, subset_size=6, seed=2020) == pytest.approx(
        expected["kernel_inception_distance_mean"],
        rel=2e-6,  # theirs is summed in float32
    )
    score = metrics.inception_score(probabilities=fake.probabilities, splits=2, seed=2020)
    assert score == pytest.approx(expected["inception_score_mean"], **near)
    manifold = metrics.precision_recall(**both, k=3)
    assert manifold.precision == pytest.approx(expected["precision"], **near)
    assert manifold.recall == pytest.approx(expected["recall"], **near)
    # Their eigenvalues of a product of rank 9 in 2048 dimensions err by some 1e-6; with N > D they would not.
    assert metrics.frechet_distance(**both) == pytest.approx(expected["frechet_inception_distance"], rel=1e-5)


def test_bfloat16_is_near_and_says_so(inception_file: Path, extracted: tuple[features.Features, ...]) -> None:
    options = FeatureOptions(inception_file, precision="bf16")
    found = features.load_extractor(INCEPTION, "folder", "cpu", options)(FAKE[:4], 256)
    assert 1e-4 < relative(found.vectors, torch.from_numpy(extracted[0].vectors[:4])) < 0.02
    assert found.vectors.dtype == np.float32
    assert features.protocol_fields(INCEPTION, "folder", options)["feature_precision"] == "bf16"


@pytest.mark.parametrize(("source", "size"), [((32, 32), 299), ((28, 20), 224), ((320, 300), 299), ((8, 8), 8)])
def test_tf1_resizing_is_torch_fidelitys(source: tuple[int, int], size: int) -> None:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = torch.randint(256, (2, 3, *source), generator=torch.Generator().manual_seed(0)).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(x, size=(size, size), align_corners=False)
    assert (resize(x, size, TF1) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("source", "size"), [((32, 32), 299), ((28, 20), 224), ((640, 500), 299)])
def test_clean_resizing_is_pillows_in_floating_point(source: tuple[int, int], size: int) -> None:
    x = torch.randint(256, source, generator=torch.Generator().manual_seed(0)).float()
    picture = Image.fromarray(x.numpy()).resize((size, size), Image.Resampling.BICUBIC)
    found = resize(x[None, None], size, CLEAN)[0, 0]
    assert np.abs(found.numpy() - np.asarray(picture).clip(0, 255)).max() < 2e-3
    overshoots = size > max(source)  # noise does, where it is not smoothed: then it was clamped
    assert (found.min() == 0, found.max() == 255) == (overshoots, overshoots)


def test_levels_are_spread_over_bytes_halves_upwards() -> None:
    assert to_bytes(torch.arange(17, dtype=torch.uint8), 17).tolist()[:9] == [0, 16, 32, 48, 64, 80, 96, 112, 128]
    assert to_bytes(torch.tensor([0, 1], dtype=torch.uint8), 2).tolist() == [0, 255]
    assert to_bytes(torch.arange(256).to(torch.uint8), 256).tolist() == list(range(256))


def test_clip_sees_what_torch_fidelitys_sees(clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

    state = torch.load(clip_file, weights_only=True)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: SimpleNamespace(state_dict=lambda: dict(state)))
    theirs = FeatureExtractorCLIP(CLIP, ["clip"], feature_extractor_weights_path="any")
    found = features.load_extractor(CLIP, "folder", "cpu", FeatureOptions(clip_file))(blots(6, 3), 256)
    with torch.no_grad():
        assert relative(found.vectors, theirs(blots(6, 3))[0]) < 1e-6
    assert found.probabilities is None
    assert found.spatial is None


def test_features_depend_on_no_batch_thread_or_autocast_and_grey_is_repeated(clip_file: Path) -> None:
    extractor = features.load_extractor(CLIP, "folder", "cpu", FeatureOptions(clip_file))
    grey = blots(40, 4, channels=1, side=16)
    whole = extractor(grey, 256).vectors
    torch.set_num_threads(2)
    try:
        on_two = extractor(grey, 256).vectors
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert np.array_equal(on_two, whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(extractor(grey, 256).vectors, whole)
    assert np.abs(extractor(grey, 256, batch=7).vectors - whole).max() < 1e-5 * np.abs(whole).max()
    assert np.array_equal(extractor(grey.expand(-1, 3, -1, -1), 256).vectors, whole)
    with pytest.raises(DataError, match=r"images of shape \(40, 4, 16, 16\), allowed: \(N, 1 or 3, H, W\)"):
        extractor(grey.expand(-1, 4, -1, -1), 256)


def test_dinov2_is_a_prenorm_transformer_with_scaled_branches() -> None:
    width, depth, heads = 24, 2, 3
    net = DinoV2(width, depth, heads)
    net.load_state_dict(fill(net, 0))
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    plain = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width, 1e-6), enable_nested_tensor=False)
    for ours, theirs in zip(net.blocks, plain.layers, strict=True):
        for a, b in ((ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2), (ours.mlp.fc1, theirs.linear1)):
            b.load_state_dict(a.state_dict())
        theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = ours.attn.qkv.parameters()
        for linear, scale, target in ((ours.attn.proj, ours.ls1, theirs.self_attn.out_proj),
                                      (ours.mlp.fc2, ours.ls2, theirs.linear2)):  # fmt: skip
            target.weight.data, target.bias.data = scale.gamma[:, None] * linear.weight, scale.gamma * linear.bias
    plain.norm.load_state_dict(net.norm.state_dict())
    x = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    patches = x.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    embedded = patches @ net.patch_embed["proj"].weight.flatten(1).T + net.patch_embed["proj"].bias
    tokens = torch.cat([net.cls_token.expand(2, -1, -1), embedded], 1) + net.positions(2)
    with torch.no_grad():
        assert torch.allclose(net(x), plain(tokens)[:, 0], atol=1e-5)


def test_dinov2_positions_follow_the_grid() -> None:
    net = DinoV2(2, 1, 1)
    ramp = torch.linspace(0, 1, 37)
    net.pos_embed.data[0, 1:] = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"), 2).flatten(0, 1)
    grid = net.positions(16)[0, 1:].unflatten(0, (16, 16))
    centres = ((torch.arange(16) + 0.5) * 37 / 16.1 - 0.5) / 36  # with the hub's tenth of a patch
    assert (grid[3:13, 5, 0] - centres[3:13]).abs().max() < 1.5e-3
    assert (grid[5, 3:13, 1] - centres[3:13]).abs().max() < 1.5e-3
    assert net.positions(37) is net.pos_embed


def test_missing_weights_name_file_hash_source_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(tmp_path / "mine"))
    message = refusal(FeatureOptions(), INCEPTION)
    for part in (
        "weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/", str(tmp_path / "mine"), "XDG_CACHE_HOME",
        "TORCH_HOME",
    ):  # fmt: skip
        assert part in message
    assert "\n" not in message
    with pytest.raises(DataError):
        features.protocol_fields(INCEPTION, "folder")
    assert refusal(FeatureOptions(tmp_path / "none.pth")) == f"{tmp_path / 'none.pth'}: not found"


def test_identity_of_weights_to_be_downloaded_is_the_published_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("identity must not download"))
    identity = features.protocol_fields("vgg16", "folder", FeatureOptions(download=True))
    assert identity["extractor_weights"] == PUBLISHED_FILES["vgg16"].sha256


def test_download_goes_to_the_named_folder_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def download(url: str, path: str, sha256: str, progress: bool) -> None:
        asked.append((url, path, sha256))
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    file = PUBLISHED_FILES[CLIP]
    message = refusal(FeatureOptions(tmp_path, download=True))
    assert message == f"{CLIP}: download of {file.url} to {tmp_path} failed: no network"
    assert asked == [(file.url, str(tmp_path / "ViT-B-32.pt"), file.sha256)]


def test_a_folder_holds_the_published_file_or_none(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ViT-B-32.pt").write_bytes(clip_file.read_bytes())
    found = hashlib.sha256(clip_file.read_bytes()).hexdigest()
    message = refusal(FeatureOptions(tmp_path))
    assert message.startswith(f"{tmp_path / 'ViT-B-32.pt'}: found weights of SHA-256 {found}, allowed: 40d36571")
    monkeypatch.setitem(PUBLISHED_FILES, CLIP, Published(f"https://example.org/{found}/ViT-B-32.pt", found))
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(tmp_path))
    loaded = features.load_extractor(CLIP, "folder")
    assert loaded.weights_hash == features.protocol_fields(CLIP, "folder")["extractor_weights"] == found


def test_a_named_file_is_taken_whatever_its_hash_and_read_anew_when_it_changes(clip_file: Path, tmp_path: Path) -> None:
    state = torch.load(clip_file, weights_only=True)
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    options = FeatureOptions(path)
    first = features.protocol_fields(CLIP, "folder", options)
    assert first["extractor_weights"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first["resize"] == "tf1-bilinear: as TensorFlow 1 does, not antialiased, to 224x224"
    assert first["grey"] == "repeated to three channels"
    as_saved, as_tensors = (features.load_extractor(CLIP, "x", "cpu", FeatureOptions(p)) for p in (clip_file, path))
    assert np.array_equal(as_saved(blots(2, 0), 256).vectors, as_tensors(blots(2, 0), 256).vectors)
    clean = FeatureOptions(path, resize="clean")
    assert not np.array_equal(features.load_extractor(CLIP, "x", "cpu", clean)(blots(2, 0), 256).vectors,
                              as_saved(blots(2, 0), 256).vectors)  # fmt: skip
    assert "antialiased bicubic" in features.protocol_fields(CLIP, "folder", clean)["resize"]
    save_file(state | {"more": torch.zeros(1)}, path)
    os.utime(path, ns=(0, 0))
    assert features.protocol_fields(CLIP, "folder", options)["extractor_weights"] != first["extractor_weights"]


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "trap.pth")
    Path("trap2.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    with zipfile.ZipFile("script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", pickle.dumps(Trap()))
        archive.writestr("script/data.pkl", pickle.dumps(Trap()))
    for name in ("trap.pth", "trap2.pth"):
        assert refusal(FeatureOptions(Path(name))).startswith(f"{name}: cannot be read as a state dict of tensors: ")
    assert "a TorchScript archive whose SHA-256 is not 40d36571" in refusal(FeatureOptions(Path("script.pt")))
    assert not Path("sprung").exists()


def test_weights_of_something_else_are_refused(clip_file: Path, tmp_path: Path) -> None:
    message = refusal(FeatureOptions(clip_file), INCEPTION)
    assert message.startswith(f"{clip_file}: found other weights than those of {INCEPTION}: ")
    torch.save([1, 2], tmp_path / "list.pth")
    assert refusal(FeatureOptions(tmp_path / "list.pth")).endswith(
        "found list, allowed: a state dict, names to tensors"
    )
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    assert refusal(FeatureOptions(tmp_path / "x.pth")).startswith(f"{tmp_path / 'x.pth'}: found other weights than")


def test_options_that_do_not_exist_or_apply_are_refused(clip_file: Path) -> None:
    assert refusal(FeatureOptions(clip_file, resize="clear")) == (
        "resize: found 'clear'; did you mean 'clean'? allowed: tf1-bilinear, clean"
    )
    assert refusal(FeatureOptions(clip_file, precision="fp16")).startswith("precision: found 'fp16'")
    assert refusal(FeatureOptions(resize="clean"), "pixels") == "features 'pixels': found resize 'clean', allowed: none"
    assert refusal(FeatureOptions(precision="bf16"), "classifier").endswith("found precision 'bf16', allowed: none")
    assert refusal(FeatureOptions(clip_file), "classifier").endswith(f"read no weights from a file; found {clip_file}")
    assert features.load_extractor("pixels", "x", "cpu", FeatureOptions(clip_file.parent)).name == "pixels"


def test_every_hash_is_that_of_torch_fidelity_or_of_the_name() -> None:
    from torch_fidelity import feature_extractor_clip as clip
    from torch_fidelity import feature_extractor_inceptionv3 as inception
    from torch_fidelity import sample_similarity_lpips as lpips

    assert {name: file.url for name, file in PUBLISHED_FILES.items() if name.startswith("clip")} == clip.MODEL_URLS
    assert PUBLISHED_FILES[INCEPTION].url == inception.URL_INCEPTION_V3
    assert weight_files.LPIPS.url == lpips.URL_VGG16_LPIPS
    for name in (INCEPTION, "vgg16"):
        assert PUBLISHED_FILES[name].sha256[:8] in PUBLISHED_FILES[name].name
    assert all(len(file.sha256) == 64 for file in PUBLISHED_FILES.values())
    assert set(features.extractor_names()) == {"classifier", "pixels", "torchscript", "clip", *PUBLISHED_FILES}
    assert [n for n in features.extractor_names() if features.has_spatial(n)] == ["classifier", INCEPTION]
    assert all(features.extractor_source(name).about for name in features.extractor_names())


def test_classifier_similarity_is_quadratic_in_a_small_change() -> None:
    near = load_similarity("classifier", "digits")
    pixels = data.load({"name": "digits"}).test.pixels[:20]
    a, change = pixels / 16, torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    small, twice = near.of_unit(a, a + 1e-4 * change), near.of_unit(a, a + 2e-4 * change)
    assert small.shape == (20,)
    assert float((twice / small).median()) == pytest.approx(4, rel=0.02)
    assert torch.equal(near(pixels, pixels, 17), torch.zeros(20))
    net = features.load_extractor("classifier", "digits")
    x, y = (torch.from_numpy(net(p, 17).vectors) for p in (pixels, pixels.flip(3)))
    expected = 2 - 2 * nn.functional.cosine_similarity(x, y)
    assert torch.allclose(near(pixels, pixels.flip(3), 17), expected, atol=1e-5)


def test_similarities_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.pth").touch()
    for name, dataset, options, expected in [
        ("lpips", "digits", FeatureOptions(), "did you mean 'lpips-vgg16'? allowed: classifier, lpips-vgg16"),
        ("classifier", "npz", FeatureOptions(), "found dataset 'npz', allowed: digits, fashion-mnist; use lpips-vgg16"),
        ("lpips-vgg16", "npz", FeatureOptions(), "vgg16-397923af.pth (SHA-256 397923af"),
        (
            "lpips-vgg16",
            "npz",
            FeatureOptions(tmp_path / "one.pth"),
            "one.pth, allowed: a folder with vgg16-397923af.pth",
        ),
    ]:
        with pytest.raises(DataError) as caught:
            load_similarity(name, dataset, "cpu", options)
        assert expected in str(caught.value)


@pytest.fixture(scope="module")
def vgg16_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random VGG16 and LPIPS under their published names."""
    folder = tmp_path_factory.mktemp("vgg16")
    write_vgg16(folder / weight_files.VGG16.name)
    gen = torch.Generator().manual_seed(1)
    widths = (64, 128, 256, 512, 512)
    own = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=gen) for i, w in enumerate(widths)}
    torch.save(own, folder / weight_files.LPIPS.name)
    return folder


@pytest.mark.slow
def test_vgg16_sees_what_torch_fidelitys_sees(vgg16_folder: Path) -> None:
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    path = vgg16_folder / weight_files.VGG16.name
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(path))
    found = features.load_extractor("vgg16", "folder", "cpu", FeatureOptions(path))(blots(4, 3), 256).vectors
    assert found.shape == (4, 4096)
    with torch.no_grad():
        assert relative(found, theirs(blots(4, 3))[0]) < 1e-5


@pytest.mark.slow
def test_lpips_is_torch_fidelitys(vgg16_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import sample_similarity_lpips as fidelity
    from torchvision.models import vgg16

    for key in ("VGG16", "LPIPS"):
        file = getattr(weight_files, key)
        own = Published(file.url, weight_files.sha256(vgg16_folder / file.name))
        monkeypatch.setattr(weight_files, key, own)
    near = load_similarity("lpips-vgg16", "folder", "cpu", FeatureOptions(vgg16_folder))
    assert (
        len(similarity.protocol_fields("lpips-vgg16", "folder", FeatureOptions(vgg16_folder))["similarity_weights"])
        == 2
    )
    net = vgg16(init_weights=False)
    net.load_state_dict(torch.load(vgg16_folder / weight_files.VGG16.name, weights_only=True))
    own = torch.load(vgg16_folder / weight_files.LPIPS.name, weights_only=True)
    monkeypatch.setattr(fidelity, "torchvision_load_pretrained_vgg16", lambda: net)
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: own)
    theirs = fidelity.SampleSimilarityLPIPS("lpips-vgg16", sample_similarity_resize=64)
    a, b = blots(5, 1), blots(5, 2)
    with torch.no_grad():
        assert torch.allclose(near(a, b), theirs(a, b).flatten(), rtol=1e-5)
    assert torch.equal(near(a, a), torch.zeros(5))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_dinov2_loads_and_runs_at_its_published_sizes(size: str, tmp_path: Path) -> None:
    net = DinoV2(*SIZES[size])
    torch.save(fill(net, 0), tmp_path / "dino.pth")
    found = features.load_extractor(f"dinov2-vit-{size}-14", "folder", "cpu", FeatureOptions(tmp_path / "dino.pth"))(
        blots(2, 0), 256
    )
    assert found.vectors.shape == (2, SIZES[size][0])
    assert np.isfinite(found.vectors).all()


@pytest.mark.slow
def test_frechet_distance_is_torch_fidelitys_with_more_images_than_dimensions() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    net = Inception().eval()
    net.load_state_dict(fill(net, 0))
    gen = torch.Generator().manual_seed(0)
    mix = torch.rand(2048, 2048, generator=gen) / 2048
    fake, real = (
        torch.rand(4000, 2048, generator=gen) @ mix + torch.rand(4000, 2048, generator=gen) / s for s in (9, 7)
    )
    expected = fid_statistics_to_metric(*map(fid_features_to_statistics, (fake, real)), verbose=False)
    found = metrics.frechet_distance(fake=fake.numpy(), real=real.numpy())
    assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
