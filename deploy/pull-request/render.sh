#!/bin/sh
# render.sh FOLDER BRANCH: compiles the network and puts every host's files on a branch of their own, where agents with
# `source: {git: …, branch: BRANCH, plans: .}` find them.
set -eu
folder=$1 branch=$2
out=$(mktemp -d)
trap 'git worktree remove --force "$out/tree" 2>/dev/null || true; rm -rf "$out"' EXIT
gitwan compile "$folder" --out "$out/plans" --partial
source=$(git rev-parse --short HEAD)
if git fetch -q origin "$branch" 2>/dev/null; then
    git worktree add -q "$out/tree" FETCH_HEAD
    git -C "$out/tree" rm -qr --ignore-unmatch .
else
    git worktree add -q --detach "$out/tree"
    git -C "$out/tree" checkout -q --orphan "$branch"
    git -C "$out/tree" rm -qrf .
fi
cp -R "$out/plans/." "$out/tree/"
git -C "$out/tree" add -A
if git -C "$out/tree" diff --cached --quiet; then echo "no plan changed"; exit 0; fi
git -C "$out/tree" -c user.name=gitwan -c user.email=gitwan@localhost commit -qm "plans: render $source"
git -C "$out/tree" push -q origin "HEAD:refs/heads/$branch"
echo "pushed the plans of $source to $branch"
