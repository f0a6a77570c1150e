import pytest

from genbench.protocol import protocol_hash
from genbench.records import Record

FEATURES = {
    "data": {"n_fake": 2000},
    "features": {"extractor": "digits-classifier", "extractor_weights": "ab" * 32, "resize": "none"},
}
UNITS = {"bits_per_dim": "bits/dim", "fid": "feature^2"}
LOWER = {"fid", "kid", "bits_per_dim"}


def make_record(model, metric, value=None, *, seed=0, half=None, protocol=None, version=1, dataset="digits", **rest):
    protocol = FEATURES if protocol is None else protocol
    rest.setdefault("family", "any")
    if half is not None:
        rest |= {"lo": value - half, "hi": value + half, "interval": "bootstrap 95 %"}
    return Record(
        suite="digits",
        suite_version=1,
        cell=f"{model}-{dataset}-s{seed}",
        model=model,
        dataset=dataset,
        seed=seed,
        metric=metric,
        metric_version=version,
        value=value,
        unit=UNITS.get(metric, ""),
        better="lower" if metric in LOWER else "higher",
        protocol=protocol,
        protocol_hash=protocol_hash(protocol),
        **rest,
    )


@pytest.fixture(scope="session")
def record():
    return make_record


@pytest.fixture(scope="session")
def digits():
    """Five rows that show every case: a tie, a bound, n/a, a failure with markup in its name, and scale rows."""
    gan = {"status": "n/a", "reason": "gan has no likelihood"}
    bad = {"status": "failed", "reason": "loss is NaN <img src=x onerror=alert(1)>"}
    evil = "<script>alert('x')</script>|_"
    likelihood = {"data": {"levels": 17, "dequantisation": "uniform"}}
    cost = {"model": {"evaluations": 1, "parameters": 412_000}}
    speed = {"machine": {"threads": 2}}
    return [
        make_record("gan", "fid", 31.0, half=1.0, protocol=FEATURES | cost),
        make_record("gan", "kid", 0.02, half=0.001),
        make_record("gan", "bits_per_dim", protocol=likelihood, **gan),
        make_record("gan", "images_per_second", 52000.0, half=900.0, protocol=speed),
        make_record("flow", "fid", 29.5, half=1.2),
        make_record("flow", "kid", -0.0004, half=0.0006),
        make_record("flow", "bits_per_dim", 2.42, half=0.02, protocol=likelihood, kind="density"),
        make_record("flow", "images_per_second", 900.0, half=20.0, protocol=speed),
        make_record("vae", "fid", 118.0, half=2.0),
        make_record("vae", "kid", 0.11, half=0.002),
        make_record("vae", "bits_per_dim", 3.31, half=0.01, protocol=likelihood, kind="bound"),
        make_record("vae", "images_per_second", 41000.0, half=700.0, protocol=speed),
        *(make_record(evil, m, **bad) for m in ("fid", "kid", "bits_per_dim", "images_per_second")),
        make_record("real", "fid", 6.2, half=0.1, role="scale"),
        make_record("noise", "fid", 421.0, half=3.0, role="scale"),
    ]
