from tests.support.sandboxes import _no_supervisor_left, _plain_git, both, box

__all__ = ["_no_supervisor_left", "_plain_git", "both", "box"]
