"""Installs what the peers need: a virtual environment or a folder of node modules for each, made once and kept."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.build import BUILD, CannotMeasure, say

ENVIRONMENTS = BUILD / "environments"
INSTALL_TIMEOUT = 600.0
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


def python_with(name: str, packages: tuple[str, ...]) -> Path:
    """Return the Python of the environment `name` with `packages` in it. Raises `CannotMeasure`."""
    folder = ENVIRONMENTS / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin/python"
    done = folder / "installed.json"
    if _is_done(done, packages):
        return python
    say(f"  installing {', '.join(packages)}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    done.write_text(json.dumps(packages))
    return python


def node_with(name: str, packages: tuple[str, ...]) -> Path:
    """Return the folder of node modules `name` with `packages` in it. Raises `CannotMeasure`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotMeasure("node and npm are not installed")
    folder = ENVIRONMENTS / name
    done = folder / "installed.json"
    if not _is_done(done, packages):
        say(f"  installing {', '.join(packages)} (npm)")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages])
        done.write_text(json.dumps(packages))
    return folder / "node_modules"


def nginx_with_nchan() -> str:
    """Return where nginx is. Raises `CannotMeasure` if it or its nchan module is not installed."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if nginx is None or not NCHAN.exists():
        raise CannotMeasure("nginx with nchan is not installed (Debian: apt install nginx libnginx-mod-nchan)")
    return nginx


def _is_done(marker: Path, packages: tuple[str, ...]) -> bool:
    return marker.exists() and json.loads(marker.read_text()) == list(packages)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"{command[0]} did not finish within {INSTALL_TIMEOUT:g} s") from error
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "WARN" not in line]
        raise CannotMeasure(f"{Path(command[0]).name} failed: {' '.join(told[-3:])}")


def python_versions(python: Path | str, packages: tuple[str, ...]) -> str:
    """Return what is installed of `packages`, as `name version, name version`."""
    names = [re.split(r"[\[<>=]", package)[0] for package in packages]
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in sys.argv[1:]))"
    )
    return subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, check=True).stdout.strip()


def node_versions(modules: Path, packages: tuple[str, ...]) -> str:
    """Return node's version and those of `packages`."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = [f"{name} {json.loads((modules / name / 'package.json').read_text())['version']}" for name in packages]
    return ", ".join([*found, f"node {node.removeprefix('v')}"])


def nginx_versions(nginx: str) -> str:
    """Return nginx's version and, where Debian's packages tell it, nchan's."""
    told = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr.strip()
    found = f"nginx {told.rpartition('/')[2]}"
    if shutil.which("dpkg-query"):
        query = ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"]
        module = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found = f"nchan {module}, {found}" if module else found
    return found


def own_python() -> Path:
    """Return the Python that runs this, in which Triocast and its Hypercorn are installed."""
    return Path(sys.executable)
