"""Build the source distribution and the wheel, and let the one's tests try the other.

``python tests/check_dist.py [PYTEST OPTIONS]`` builds the source distribution from the repository,
the wheel from the source distribution, and installs the wheel into a fresh environment that sees
this one's dependencies but not its copy of the package. Then it runs the unpacked tests there.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jl_attention", "jl_attention_book")

BUILD = """
import sys
from setuptools import build_meta

print(getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2]))
"""

FROM_WHEEL = """
import importlib, importlib.metadata, sys
from pathlib import Path

home = Path(sys.prefix).resolve()
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert home in Path(module.__file__).resolve().parents, module.__file__
version = importlib.metadata.version("jl-attention")
assert version == importlib.import_module(sys.argv[2]).__version__ == sys.argv[1], version
"""


def build(kind, source, folder):
    """Build a distribution with the package's own backend and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-c", BUILD, kind, str(folder)]
    run = subprocess.run(line, cwd=source, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{kind}: {run.stderr[-2000:]}")
    return folder / run.stdout.splitlines()[-1]


def main(options):
    """Build, install and test; return what pytest returns."""
    work = ROOT / "_build" / "dist"
    shutil.rmtree(work, ignore_errors=True)
    copied = work / "repository"  # so that building leaves nothing behind
    ignored = shutil.ignore_patterns("_build", ".venv*", ".machines", ".git", "*.egg-info")
    shutil.copytree(ROOT, copied, ignore=ignored)
    sdist = build("sdist", copied, work)
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    source = work / sdist.name.removesuffix(".tar.gz")
    wheel = build("wheel", source, work)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"{PACKAGES[0]}/py.typed", f"{PACKAGES[1]}/data/claims.toml"}
    wanted |= {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    if missing := wanted - names:
        sys.exit(f"{wheel.name}: {sorted(missing)} missing")
    if strange := {name for name in names if name.startswith(("tests/", "book/"))}:
        sys.exit(f"{wheel.name}: {sorted(strange)[:3]} do not belong into it")

    home = work / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--target", str(site), str(wheel)], check=True
    )  # fmt: skip
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    version = wheel.name.split("-")[1]
    check = [python, "-c", FROM_WHEEL, version, *PACKAGES]
    subprocess.run(check, cwd=work, env=clean, check=True)
    print(f"{sdist.name} and {wheel.name}: built, and installed", flush=True)
    tests = [python, "-m", "pytest", *options]
    return subprocess.run(tests, cwd=source, env=clean, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
