#!/bin/sh
# The floor of `two_hundred`: the same worktrees, commits, checks and merges by git alone, one after another.
# Usage, in the repository: one_after_another.sh PLACE STORY…   (WORK is what an agent does, CHECK the check)
set -eu
place=$1; shift
mkdir -p "$place"
for story in "$@"; do
    git worktree add -q -b "feature/$story" "$place/$story" main                # gate 1: the story's own worktree
    (cd "$place/$story" && story=$story sh -c "$WORK" && $CHECK)                # gates 2 and 3: the work, its checks
    submitted=$(git rev-parse "feature/$story")
    git worktree add -q --detach "$place/qa-$story" "$submitted"                # gate 4: afresh, elsewhere
    (cd "$place/qa-$story" && $CHECK)
    git worktree remove --force "$place/qa-$story"
    git worktree add -q --detach "$place/merge-$story" main                     # gate 6: merged with the target's tip
    (cd "$place/merge-$story" && git merge -q --no-ff -m "Merge $story" "$submitted" && $CHECK)
    git merge -q --ff-only "$(git -C "$place/merge-$story" rev-parse HEAD)"     # gate 7: the target, and the checkout
    git worktree remove --force "$place/merge-$story"
    git worktree remove --force "$place/$story"
done
