"""Cut the training patches of the models that ship: photographs of known licences, never the images models are tested on.

    python scripts/make_pretraining_data.py OUT [--wallpapers FOLDER]

FOLDER holds the unpacked Debian package mate-backgrounds (`apt-get download mate-backgrounds; dpkg -x FILE.deb FOLDER`). Its files are
JPEGs, so they are made smaller by 2 to 4, which leaves nothing of their blocks. Writes OUT/rgb.npy and OUT/grey.npy, (N, C, 48, 48) uint8.
Sources and licences: src/codelength/pretrained/LICENCES.md. astronaut and chelsea, the test photographs of photos32, are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 48
PATCHES = 14_000
# (package, file, makes smaller by)
PACKAGED = [
    ("sklearn", "datasets/images/china.jpg", (2,)),
    ("sklearn", "datasets/images/flower.jpg", (2,)),
    ("skimage", "data/coffee.png", (1, 1, 2)),
    ("skimage", "data/ihc.png", (1, 2)),
    ("skimage", "data/rocket.jpg", (2,)),
    ("skimage", "data/retina.jpg", (2, 3)),
    ("skimage", "data/hubble_deep_field.jpg", (2, 3)),
]
GREY = ["camera.png", "brick.png", "grass.png", "gravel.png", "moon.png", "coins.png"]


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / name


def smaller(image: Image.Image, factor: int) -> np.ndarray:
    """(H, W, 3) of an image reduced by averaging and sharp resampling."""
    if factor > 1:
        image = image.resize((image.width // factor, image.height // factor), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGB"))


def colour_images(wallpapers: Path | None) -> list[np.ndarray]:
    """All photographs in the sizes that patches are cut from."""
    files = [(package_file(package, name), factors) for package, name, factors in PACKAGED]
    if wallpapers is not None:
        files += [(path, (2, 3)) for path in sorted(wallpapers.rglob("nature/*.jpg"))]
        files += [(path, (3, 4)) for path in sorted(wallpapers.rglob("Elephants_5640x3172.jpg"))]
    return [smaller(Image.open(path), factor) for path, factors in files for factor in factors]


def cut(images: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """Random patches, (count, C, SIZE, SIZE); a larger image gives more of them, as the root of its size. Half are mirrored."""
    images = [image for image in images if min(image.shape[:2]) >= SIZE]
    weight = np.sqrt([image.shape[0] * image.shape[1] for image in images])
    out = []
    for index in rng.choice(len(images), count, p=weight / weight.sum()):
        image = images[index]
        row, column = rng.integers(image.shape[0] - SIZE + 1), rng.integers(image.shape[1] - SIZE + 1)
        patch = image[row : row + SIZE, column : column + SIZE]
        out.append(patch[:, ::-1] if rng.random() < 0.5 else patch)
    return np.ascontiguousarray(np.stack(out).transpose(0, 3, 1, 2))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wallpapers", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    images = colour_images(given.wallpapers)
    given.out.mkdir(parents=True, exist_ok=True)
    np.save(given.out / "rgb.npy", cut(images, PATCHES, rng))
    greys = [np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in images]
    greys += [np.asarray(Image.open(package_file("skimage", f"data/{name}")).convert("L"))[..., None] for name in GREY]
    np.save(given.out / "grey.npy", cut(greys, PATCHES, rng))


if __name__ == "__main__":
    main()
