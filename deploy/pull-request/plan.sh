#!/bin/sh
# plan.sh BASE FOLDER FILE: writes the plan diff between a revision and the working tree as Markdown.
# Exit 0 whether or not there are changes; 1 where the network does not compile (the file then says why).
set -eu
code=0
gitwan diff "$1" --dir "$2" --format markdown > "$3" || code=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$3" >> "$GITHUB_STEP_SUMMARY"; fi
[ "$code" = 2 ] && code=0
exit "$code"
