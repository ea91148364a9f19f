#!/bin/sh
# comment.sh OWNER/NAME NUMBER FILE: keeps one comment of a pull request up to date, found by its first line.
# Needs GitHub's `gh`, and GH_TOKEN with the right to write to pull requests.
set -eu
repository=$1 number=$2 file=$3
marker="<!-- gitwan plan -->"
if [ "$(head -n 1 "$file")" != "$marker" ]; then echo "$file holds no plan: nothing to say" >&2; exit 1; fi
comments="repos/$repository/issues/$number/comments"
id=$(gh api --paginate "$comments" --jq ".[] | select(.body | startswith(\"$marker\")) | .id" | head -n 1)
if [ -n "$id" ]; then
    gh api --method PATCH "repos/$repository/issues/comments/$id" -F body=@"$file" >/dev/null
    echo "comment $id brought up to date"
else
    gh api --method POST "$comments" -F body=@"$file" >/dev/null
    echo "comment made"
fi
