"""Fixtures: processes that end with their test, and figures that a run prints at its end."""

import pytest

from support.server import Server

FIGURES = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption("--drains", type=int, default=1, help="how often to drain with hostile peers attached")
    parser.addoption("--rolls", type=int, default=2, help="how many restarts slow calls must outlive")
    parser.addoption("--chart-rolls", type=int, default=1, help="how many rollouts of the chart calls must outlive")


def pytest_configure(config):
    config.stash[FIGURES] = []


@pytest.fixture
def figure(request):
    """Add a line to the figures that the run prints at its end."""
    name = request.node.name
    return lambda text: request.config.stash[FIGURES].append(f"{name}: {text}")


def pytest_terminal_summary(terminalreporter, config):
    if figures := config.stash[FIGURES]:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)


@pytest.fixture
def started():
    """Close all added things after the test, in reverse order."""
    things = []

    def add(thing):
        things.append(thing)
        return thing

    yield add
    for thing in reversed(things):
        thing.close()


@pytest.fixture
def server(started, tmp_path):
    return started(Server(tmp_path / "server"))


@pytest.fixture
def replicas(started, tmp_path):
    return [started(Server(tmp_path / name)) for name in ("one", "two")]


@pytest.fixture
def drains(request):
    return request.config.getoption("--drains")


@pytest.fixture
def rolls(request):
    return request.config.getoption("--rolls")


@pytest.fixture
def chart_rolls(request):
    return request.config.getoption("--chart-rolls")
