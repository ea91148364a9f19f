"""The steps of the pull request's workflow, run as it runs them, on a real git repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = ROOT / "deploy" / "pull-request"
GH = """\
#!{python}
# GitHub's API behind `gh api`, as far as comment.sh uses it: a folder with a file per comment.
import pathlib, re, sys
folder = pathlib.Path("{folder}")
words = sys.argv[1:]
assert words[0] == "api"
body = next((pathlib.Path(w.removeprefix("body=@")).read_text() for w in words if w.startswith("body=@")), None)
if body is None:
    start = re.search(r'startswith\\("(.*)"\\)', words[words.index("--jq") + 1])[1]
    print("\\n".join(p.name for p in sorted(folder.iterdir()) if p.read_text().startswith(start)))
elif "PATCH" in words:
    target = folder / words[3].rsplit("/", 1)[1]
    assert target.exists()
    target.write_text(body)
else:
    assert words[3] == "repos/o/r/issues/7/comments"
    (folder / str(100 + len(list(folder.iterdir())))).write_text(body)
"""


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *settings, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a repository that has the example network in sites/."""
    origin, folder = tmp_path / "origin.git", tmp_path / "clone"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(origin))
    git(tmp_path, "clone", "-q", str(origin), str(folder))
    subprocess.run(["cp", "-R", ROOT / "sites", folder / "sites"], check=True)
    git(folder, "checkout", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    git(folder, "push", "-q", "origin", "main")
    return folder


def step(clone: Path, name: str, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    programs = [str(path)] if path else []
    programs += [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": ":".join(programs)}
    environment.pop("GITHUB_STEP_SUMMARY", None)
    return subprocess.run(
        [STEPS / name, *words], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def edit(clone: Path, name: str, old: str, new: str) -> None:
    path = clone / "sites" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_plan_of_a_change_is_markdown_and_a_success(clone: Path) -> None:
    edit(clone, "fabric.yaml", "tunnels: 3", "tunnels: 4")
    done = step(clone, "plan.sh", "main", "sites", "plan.md")
    assert done.returncode == 0, done.stderr
    text = (clone / "plan.md").read_text()
    assert "2 hosts would change, 4 not touched; disruption: reorders flows" in text
    assert "wg-fra-4" in text


def test_no_change_says_so(clone: Path) -> None:
    assert step(clone, "plan.sh", "main", "sites", "plan.md").returncode == 0
    assert "no plan changes" in (clone / "plan.md").read_text()


def test_what_does_not_compile_is_a_failure_with_its_problems_in_the_comment(clone: Path) -> None:
    edit(clone, "fabric.yaml", "tunnels: 3", "tunels: 3")
    assert step(clone, "plan.sh", "main", "sites", "plan.md").returncode == 1
    text = (clone / "plan.md").read_text()
    assert "fabric.yaml:14:5: error[GW010]: unknown key `tunels`" in text
    assert "Traceback" not in text


def test_one_comment_is_kept_up_to_date_and_others_are_left_alone(clone: Path, tmp_path: Path) -> None:
    comments, programs = tmp_path / "comments", tmp_path / "bin"
    comments.mkdir()
    programs.mkdir()
    (comments / "99").write_text("Looks good to me")
    (programs / "gh").write_text(GH.format(python=sys.executable, folder=comments))
    (programs / "gh").chmod(0o755)
    (clone / "empty.md").write_text("")
    assert step(clone, "comment.sh", "o/r", "7", "empty.md", path=programs).returncode == 1
    for tunnels in ("4", "5"):
        edit(clone, "fabric.yaml", f"tunnels: {int(tunnels) - 1}", f"tunnels: {tunnels}")
        step(clone, "plan.sh", "main", "sites", "plan.md")
        done = step(clone, "comment.sh", "o/r", "7", "plan.md", path=programs)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in comments.iterdir()) == ["101", "99"]
    assert (comments / "99").read_text() == "Looks good to me"
    assert "wg-fra-5" in (comments / "101").read_text()


def test_rendered_plans_go_to_a_branch_of_their_own(clone: Path) -> None:
    done = step(clone, "render.sh", "sites", "plans")
    assert done.returncode == 0, done.stderr
    files = git(clone, "ls-tree", "-r", "--name-only", "origin/plans").splitlines()
    assert "nas/plan.json" in files and "sites/fabric.yaml" not in files
    again = step(clone, "render.sh", "sites", "plans")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "no plan changed")
    edit(clone, "fabric.yaml", "tunnels: 3", "tunnels: 2")
    assert step(clone, "render.sh", "sites", "plans").returncode == 0
    assert git(clone, "rev-list", "--count", "origin/plans").strip() == "2"
    assert git(clone, "status", "--porcelain").splitlines() == [" M sites/fabric.yaml"]
