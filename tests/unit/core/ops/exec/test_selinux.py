"""Labels by the files of a policy, as Fedora has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.errors import UnsupportedError
from torana.core.ops.exec.selinux import Labels, container_labels

CONTEXTS = """\
# of container-selinux
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
"""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    kernel, config = tmp_path / "kernel", tmp_path / "config"
    kernel.mkdir()
    (kernel / "enforce").write_text("1")
    (config / "mls/contexts").mkdir(parents=True)
    (config / "config").write_text("SELINUX=enforcing\n# SELINUXTYPE=no\nSELINUXTYPE=mls\n")
    (config / "mls/contexts/lxc_contexts").write_text(CONTEXTS)
    return {"kernel": kernel, "config": config}


def test_each_container_has_categories_of_its_own(places: dict[str, Path]) -> None:
    found = [container_labels(is_insecure=False, **places) for _ in range(20)]
    assert len(set(found)) > 1
    for labels in found:
        process, level = labels.process.removeprefix("system_u:system_r:container_t:s0:"), ""
        first, second = (int(part.removeprefix("c")) for part in process.split(","))
        assert 0 <= first < second < 1022
        level = f"s0:{process}"
        assert labels.files == f"system_u:object_r:container_file_t:{level}"


def test_insecure_containers_are_not_confined(places: dict[str, Path]) -> None:
    files = "system_u:object_r:container_file_t:s0:c1022,c1023"
    assert container_labels(is_insecure=True, **places) == Labels("", files)


def test_without_selinux(places: dict[str, Path]) -> None:
    (places["kernel"] / "enforce").unlink()
    with pytest.raises(UnsupportedError, match="selinux is not available"):
        container_labels(is_insecure=False, **places)


def test_a_policy_without_containers(places: dict[str, Path]) -> None:
    (places["config"] / "mls/contexts/lxc_contexts").write_text("process = x\n")
    with pytest.raises(UnsupportedError, match="no labels for containers: 'file'"):
        container_labels(is_insecure=False, **places)
    (places["config"] / "config").unlink()
    with pytest.raises(UnsupportedError, match="no labels for containers"):
        container_labels(is_insecure=False, **places)
