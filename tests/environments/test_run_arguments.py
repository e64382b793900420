"""``--run-arg``: options of docker run."""

from __future__ import annotations

from typing import Any

import pytest

from driftcheck.environments.run_arguments import parse
from driftcheck.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["--shm-size", "2g"], {"shm_size": 2 << 30}),
        (["--shm-size=64m"], {"shm_size": 64 << 20}),
        (["--memory 512MB"], {"mem_limit": 512 << 20}),
        (["-m 1.5g"], {"mem_limit": 3 << 29}),
        (["-m1000"], {"mem_limit": 1000}),
        (["--cpus 1.5"], {"nano_cpus": 1_500_000_000}),
        (["--ipc=host", "--runtime nvidia"], {"ipc_mode": "host", "runtime": "nvidia"}),
        (["--cap-add SYS_NICE --cap-add=IPC_LOCK"], {"cap_add": ["SYS_NICE", "IPC_LOCK"]}),
        (["--read-only", "--tmpfs /tmp:size=1g"], {"read_only": True, "tmpfs": {"/tmp": "size=1g"}}),
        (["--read-only=false"], {}),
        (["-v /models:/models:ro"], {"binds": ["/models:/models:ro"]}),
        (["--device /dev/fuse"], {"devices": ["/dev/fuse"]}),
        (["--ulimit nofile=1024:2048"], {"ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]}),
        (["--ulimit memlock=-1"], {"ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}]}),
        (["--pids-limit 100", "--cpuset-cpus 0-3"], {"pids_limit": 100, "cpuset_cpus": "0-3"}),
    ],
)
def test_what_a_host_configuration_becomes(arguments: list[str], host: dict[str, Any]) -> None:
    assert parse(arguments, {}).host == host


@pytest.mark.parametrize(
    ("given", "count", "devices"),
    [("all", -1, []), ("2", 2, []), ("device=0,1", 0, ["0", "1"]), ("'\"device=0,2\"'", 0, ["0", "2"])],
)
def test_gpus(given: str, count: int, devices: list[str]) -> None:
    (request,) = parse([f"--gpus {given}"], {}).host["device_requests"]
    assert (request["Count"], request["DeviceIDs"]) == (count, devices)
    assert request["Capabilities"] == [["gpu"]]


def test_variables_are_passed_and_not_told() -> None:
    found = parse(["-e", "A='1 2'", "--env=TOKEN=secret", "-eB", "-e NOWHERE", "--user 1000"], {"B": "from here"})
    assert found.environment == {"A": "1 2", "TOKEN": "secret", "B": "from here", "NOWHERE": ""}
    assert found.create["user"] == "1000"
    assert found.text == "--env A --env TOKEN --env B --env NOWHERE --user 1000"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--privileged", "'--privileged' is not supported. These are: --cap-add, "),
        ("--network=host", "'--network' is not supported"),
        ("rubbish", "'rubbish' is not supported"),
        ("--shm-size", 'has no value. For example: --run-arg "--shm-size VALUE"'),
        ("--shm-size lots", "'lots' is no size"),
        ("--cpus two", "'two' is no number"),
        ("--gpus ²", "'²' is not understood. It is all, a number, or device=0,1"),
        ("--gpus some", "'some' is not understood. It is all, a number, or device=0,1"),
        ("--ulimit nofile", "'nofile' is not understood"),
        ("--volume /models", "'/models' is not understood"),
        ("--env =x", "names no variable"),
        ("--read-only=maybe", "--read-only takes no value"),
        ("--memory '2g", "cannot be split into words"),
    ],
)
def test_what_is_refused(argument: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse([argument], {})
    assert message in str(caught.value)
    assert str(caught.value).startswith("--run-arg: ")
