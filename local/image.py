"""The container image of the consumer: a static binary, the certificates of public authorities, and nothing else."""

import json
import platform
import shutil
import tarfile
from pathlib import Path

from local import build, consumer
from local.command import run_logged
from local.paths import ROOT
from local.progress import Failure, step

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MOST_BYTES = 15_000_000
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def run() -> int:
    """Builds it for this machine's architecture. 0 if it is as small as promised."""
    if shutil.which("buildah") is None:
        raise Failure("buildah is missing. On Debian: apt-get install --no-install-recommends buildah")
    if not CERTIFICATES.is_file():
        raise Failure(f"{CERTIFICATES} is missing. On Debian: apt-get install ca-certificates")
    binary = consumer.programs(deployed=True)["consumer"]
    folder = build.target() / "image"
    context, store, archive = folder / "context", folder / "store", folder / "consumer.tar"
    shutil.rmtree(folder, ignore_errors=True)
    context.mkdir(parents=True)
    for source, name in ((binary, "consumer"), (CERTIFICATES, "ca-certificates.crt")):
        shutil.copy(source, context / name)
    (context / "consumer").chmod(0o755)
    buildah = ["buildah", "--storage-driver", "vfs", "--root", str(store), "--runroot", str(folder / "run")]
    architecture = ARCHITECTURES[platform.machine()]
    file = str(ROOT / "consumer" / "Dockerfile")
    with step("Building the image") as s:
        bud = [*buildah, "bud", "--isolation", "chroot", "--arch", architecture, "--timestamp", "0", "--format", "docker"]
        run_logged([*bud, "-f", file, "-t", "landfall-consumer", str(context)], s, "image")
        run_logged([*buildah, "push", "landfall-consumer", f"oci-archive:{archive}"], s, "image-push")
    shutil.rmtree(store, ignore_errors=True)
    config = _config(archive)
    size, packed = (context / "consumer").stat().st_size + CERTIFICATES.stat().st_size, archive.stat().st_size
    print(
        f"{archive.relative_to(ROOT) if archive.is_relative_to(ROOT) else archive}: {packed / 1e6:.1f} MB, "
        f"unpacked {size / 1e6:.1f} MB, {config['architecture']}, user {config['config']['User']}"
    )
    return 0 if size < MOST_BYTES else 1


def _config(archive: Path) -> dict:
    """The image's configuration, out of the archive."""
    with tarfile.open(archive) as tar:

        def blob(digest: str) -> dict:
            found = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert found is not None
            return json.load(found)

        index = tar.extractfile("index.json")
        assert index is not None
        manifest = blob(json.load(index)["manifests"][0]["digest"])
        return blob(manifest["config"]["digest"])
