"""The built-in worker: whom it runs scripts as, and where it does not run at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.devserver.worker.built_in import BuiltInClient, NoSuchUser
from tests.devserver.running_server import RunningServer
from tests.other_user import only_root, secret_of_root


async def test_it_runs_only_where_it_is_allowed(server: RunningServer) -> None:
    for where in ({"WorkerPoolIds": ["WorkerPools-1"]}, {"TargetType": "OctopusServer"}):
        task = await server.ended(await server.script("true", **where))
        assert task["ErrorMessage"] == (
            "There is no such worker to run the script on. This server itself runs scripts with --built-in-worker=USER."
        )


@pytest.mark.parametrize(
    ("user", "complaint"), [("no-such-user", "There is no user"), ("root", "another user, 'root'")]
)
def test_a_user_who_is_not_there_or_no_other_one_is_refused(tmp_path: Path, user: str, complaint: str) -> None:
    with pytest.raises(NoSuchUser, match=complaint):
        BuiltInClient.of(user, tmp_path)


@only_root
async def test_files_are_touched_by_processes_of_that_user_alone(tmp_path: Path) -> None:
    """A link that a script has left leads the server to nothing that the script itself could not reach."""
    for above in (tmp_path, *tmp_path.parents):
        above.chmod(above.stat().st_mode | 0o011)
    home = tmp_path / "home"
    home.mkdir()
    client = BuiltInClient.of("nobody", home)
    secret = secret_of_root(tmp_path / "kept" / "secret")
    (home / "Home" / "link").symlink_to(secret)
    assert await client.download("link") is None
    local = tmp_path / "local"
    local.write_bytes(b"new")
    assert (await client.upload("a/b", local)).length == 3
    copy = await client.download("a/b")
    assert copy is not None
    assert copy.read_bytes() == b"new"
    with pytest.raises(Exception, match="cannot be written by 'nobody'"):
        await client.upload("link", local)
    assert secret.read_bytes() == b"secret"
