import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.git import Change, PathRules, check_paths
from orchestrator.git.ownership import matches


def rules_hit(changes, **rules):
    return {v.path: v.rule for v in check_paths(changes, PathRules(**rules))}


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("docs/", ["docs/a", "docs/x/y"], ["docs", "src/docs/a", "docsx/a", "Docs/a"]),
        ("docs", ["docs", "docs/a", "src/docs/a"], ["docs2", "xdocs"]),
        ("src/core/**", ["src/core/a", "src/core/a/b"], ["src/core", "src/corex/a", "x/src/core/a"]),
        ("/Makefile", ["Makefile"], ["sub/Makefile"]),
        ("*.py", ["a.py", "x/y/b.py", "dir.py/inside"], ["a.pyc", "apy"]),
        ("src/*.py", ["src/a.py"], ["src/x/a.py"]),
        ("**/test_*.py", ["test_a.py", "x/y/test_b.py"], ["x/atest_b.py"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "b/a/z"]),
        ("?.txt", ["a.txt"], ["ab.txt", "/.txt"]),
        ("[a-c]x", ["ax", "d/bx"], ["dx"]),
        ("[!a]x", ["bx"], ["ax"]),
        ("a[!b]c/", ["axc/y"], ["a/c/y", "abc/y"]),
        ("**", ["a", "a/b"], []),
        ("a+b(c)/", ["a+b(c)/x"], ["aab(c)/x"]),
        ("line\nbreak", ["line\nbreak"], ["line"]),
    ],
)
def test_patterns(pattern, yes, no):
    assert [p for p in yes if not matches(pattern, p)] == []
    assert [p for p in no if matches(pattern, p)] == []


@pytest.mark.parametrize("pattern", ["", "/", "!a", "../x", "a/../b", "./a", "a\\b", "a//b", "[a", "[z-a]", "a\0b"])
def test_bad_patterns_are_refused_before_anything_is_judged(pattern):
    with pytest.raises(InvalidInput):
        PathRules(owns=(pattern,))


def test_owns_reads_and_forbidden_in_their_order():
    changes = [Change(p, "M") for p in ("src/auth/a.py", "src/auth/secret.py", "src/core/b.py", "README.md")]
    rules = {"owns": ("src/auth/",), "reads": ("src/core/",), "forbidden": ("secret.*",)}
    assert rules_hit(changes, **rules) == {
        "src/auth/secret.py": "forbidden",
        "src/core/b.py": "read_only",
        "README.md": "not_owned",
    }
    assert rules_hit(changes) == {}
    assert rules_hit(changes, reads=("README.md",)) == {"README.md": "read_only"}


def test_a_rename_is_judged_on_both_sides():
    move_out = Change("elsewhere/a.py", "R", "src/a.py")
    assert rules_hit([move_out], owns=("src/",)) == {"elsewhere/a.py": "not_owned"}
    assert rules_hit([move_out], owns=("elsewhere/",)) == {"src/a.py": "not_owned"}
    assert rules_hit([Change("src/b.py", "C", "lib/a.py")], owns=("src/",)) == {}


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "/etc/passwd", True),
        ("a", "..", True),
        ("a/b", "../c", False),
        ("a/b", "../../c", True),
        ("a/b", "c/../../d", True),
        ("a", ".git/config", True),
        ("a", ".GIT/config", True),
        ("a", "b/c", False),
        ("a", "./b", False),
        ("a", None, True),
        ("a", "", True),
    ],
)
def test_symlinks_that_lead_out(path, target, out):
    change = Change(path, "A", new_mode="120000", link_target=target)
    assert (rules_hit([change], owns=(path,)) == {path: "symlink"}) is out


def test_what_steers_git_and_maf_is_refused_unless_named():
    changes = [Change(p, "M") for p in ("maf.toml", ".maf/x", "sub/.gitattributes", ".gitmodules", "MAF.toml")]
    everything = {c.path: "control" for c in changes}
    assert rules_hit(changes) == everything
    assert rules_hit(changes, owns=("**", "*.toml")) == everything
    named = tuple(c.path for c in changes)
    assert rules_hit(changes, owns=named) == {}
    assert rules_hit(changes, owns=named, forbidden=("maf.toml",)) == {"maf.toml": "forbidden"}
    assert rules_hit([Change("sub/maf.toml", "M"), Change(".gitignore", "M"), Change(".github/x", "M")]) == {}


def test_submodules_and_impossible_paths():
    assert rules_hit([Change("lib", "D", old_mode="160000", new_mode="000000")]) == {"lib": "submodule"}
    assert rules_hit([Change("lib", "A", new_mode="160000")], owns=("lib",)) == {}
    paths = ("../a", "/a", "a//b", "a/.git/x", "a/.GIT", "./a")
    assert rules_hit([Change(p, "A") for p in paths]) == dict.fromkeys(paths, "path")


def test_undecodable_names_are_paths_like_others():
    assert rules_hit([Change("docs/\udcff\n", "A")], owns=("docs/",)) == {}
    assert rules_hit([Change("x\udcff", "A")], owns=("docs/",)) == {"x\udcff": "not_owned"}
