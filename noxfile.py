"""`nox` proves the project: lint, the tests on every Python there is, and the wheel on its own.

`nox -s simulations` runs the long simulations, which the tests do with fewer seeds; `nox -s crowd` runs one of 10,000
clients, `nox -s jitter` 1,000 clients on a bad network, and `nox -s soak` servers whose Valkey, workers and links fail.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests", "wheel"]

PYTHONS = ["3.11", "3.12", "3.13"]
PROJECT = nox.project.load_toml("pyproject.toml")
HERE = Path(__file__).parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and the given groups of what its development needs."""
    session.install("--quiet", "-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


def install_for_tests(session: nox.Session) -> None:
    """Install what the tests need here; without a browser, those that need one are skipped."""
    install(session, "test", *(["browsers"] if any(map(shutil.which, CHROMIUMS)) else []))


@nox.session(python=sys.executable)
def lint(session: nox.Session) -> None:
    """Check style, format, types, and that imports go one way."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; those with browsers and long faults on one Python only, which is nox's own if it can be."""
    install_for_tests(session)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    everything = session.python == (own if own in PYTHONS else PYTHONS[0])
    session.run("pytest", *([] if everything or session.posargs else ["-m", "not once"]), *session.posargs)


@nox.session(python=sys.executable)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone, and run the README's walkthrough and its first command."""
    session.install("--quiet", "build", "trio", "trio-websocket", *nox.project.dependency_groups(PROJECT, "test"))
    fresh = Path(session.create_tmp()).resolve() / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--outdir", str(fresh / "dist"), str(HERE), silent=True)
    session.run("python", "-m", "venv", str(fresh / "alone"))
    (built,) = (fresh / "dist").glob("*.whl")
    session.run(str(fresh / "alone/bin/pip"), "install", "--quiet", str(built), external=True)
    session.run("python", "-m", "tests.fresh_install", str(fresh))


@nox.session(python=sys.executable)
def simulations(session: nox.Session) -> None:
    """Run many long simulations: nox -s simulations -- [how many] [first seed]."""
    install(session, "test")
    session.run("python", "-m", "tests.simulate", *session.posargs)


@nox.session(python=sys.executable)
def crowd(session: nox.Session) -> None:
    """Run a simulation of 10,000 clients: nox -s crowd -- [seed]."""
    install(session, "test")
    seed = session.posargs[0] if session.posargs else "1"
    session.run("python", "-m", "tests.simulate", "1", seed, "10000")


@nox.session(python=sys.executable)
def jitter(session: nox.Session) -> None:
    """Run 1,000 clients on a bad network for 60 virtual seconds: nox -s jitter -- [clients] [seconds] [seed]."""
    install(session, "test")
    session.run("python", "-m", "tests.jitter", *session.posargs)


@nox.session(python=sys.executable)
def soak(session: nox.Session) -> None:
    """Break servers of several processes under load and count what is lost: nox -s soak -- [case] [seconds]."""
    install(session, "test")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session(python=sys.executable)
def floors(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject.toml allows."""
    install_for_tests(session)
    oldest = [line.split(";")[0].split(",")[0].replace(">=", "==") for line in PROJECT["project"]["dependencies"]]
    wanted = [name for name in oldest if "quart" not in name]
    session.install("--quiet", *wanted)
    session.run("pytest", *session.posargs, env={"CI": os.environ.get("CI", "")})


@nox.session(python=sys.executable)
def benchmark(session: nox.Session) -> None:
    """Measure the server beside its peers: nox -s benchmark -- [--quick] [--rounds N] [--only CASE] [--peers A,B]."""
    session.install("--quiet", "-e", ".[valkey]")
    session.run("python", "-m", "benchmarks.run", *session.posargs)
