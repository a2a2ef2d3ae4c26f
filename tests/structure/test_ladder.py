"""Modules of src/ use only those that stand before them in CONTRIBUTING.md, and files of a folder import each other one way."""

import re
import unittest

from harness import paths

TEST_MODULE = re.compile(r'^#\[cfg\((?:test|any\(test, feature = "pg_test"\))\)\]\n(?:#\[.*\n)*(?:pub )?mod \w+ \{\n(?:.*\n)*?\}\n', re.M)
USE = re.compile(r"\buse\s+((?:crate|self|super)::[^;]*);")
INLINE = re.compile(r"\b(?:crate|super)(?:::\w+)+")


def ladder(text):
    """The modules in the order of the table under "Where things are"."""
    table = re.search(r"^## Where things are\n(.*?)^## ", text, re.M | re.S).group(1)
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    return [name for row in rows for name in re.findall(r"`src/(\w+)(?:/|\.rs)`", row[2])]


def modules(sources):
    """{file: its module as a tuple} of files under src/; tests are left out."""
    found = {}
    for file in sources:
        *folders, name = file.removesuffix(".rs").split("/")
        if name != "tests" and (folders or name != "lib"):
            found[file] = tuple(folders if name == "mod" else [*folders, name])
    return found


def expand(tree):
    """The paths that a `use` names: `a::{b, c::d}` is `a::b` and `a::c::d`."""
    tree = tree.strip()
    if not tree.endswith("}"):
        return [re.sub(r"\s+as\s+\w+$", "", tree)]
    head, _, body = tree[:-1].partition("{")
    parts, depth = [""], 0
    for char in body:
        depth += (char == "{") - (char == "}")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [head + path for part in parts if part.strip() for path in expand(part)]


def imports(text, module, known):
    """The modules that a file names by `crate::`, `super::` or `self::`, as exactly as it can be told."""
    text = re.sub(r"//.*", "", TEST_MODULE.sub("", text))
    named = [path for tree in USE.findall(text) for path in expand(tree)] + INLINE.findall(USE.sub("", text))
    found = set()
    for path in named:
        first, *rest = path.split("::")
        base = {"crate": (), "self": module, "super": module[:-1]}[first]
        while rest and rest[0] == "super":
            base, rest = base[:-1], rest[1:]
        target = (*base, *rest)
        while target not in known and target:
            target = target[:-1]
        found.add(target)
    return found


def graph(sources):
    """{module: modules that it imports}"""
    names = modules(sources)
    known = {module[:n] for module in names.values() for n in range(1, len(module) + 1)}
    edges = {}
    for file, module in names.items():
        edges.setdefault(module, set()).update(imports(sources[file], module, known))
    return edges


def upwards(sources, order):
    """Imports of what does not stand before the module in the order."""
    place = {name: n for n, name in enumerate(order)}
    return sorted(f"{'::'.join(module)} -> {target[0]}" for module, targets in graph(sources).items() for target in targets
                  if target and target[0] != module[0] and place[target[0]] > place[module[0]])


def circles(sources):
    """Circles among the files and folders that stand in one folder."""
    siblings = {}
    for module, targets in graph(sources).items():
        for target in targets:
            n = next((n for n, (one, other) in enumerate(zip(module, target)) if one != other), 0)
            if n:
                siblings.setdefault(module[:n], {}).setdefault(module[n], set()).add(target[n])
    found = []
    for folder, edges in siblings.items():
        # What imports nothing that is left, or is imported by nothing that is left, can't be in a circle.
        while free := [name for name, targets in edges.items()
                       if not any(target in edges for target in targets) or not any(name in others for others in edges.values())]:
            for name in free:
                del edges[name]
        if edges:
            found.append(f"{'::'.join(folder)}: {', '.join(sorted(edges))}")
    return found


class Ladder(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        src = paths.ROOT / "src"
        cls.sources = {str(file.relative_to(src)): file.read_text(encoding="utf-8") for file in sorted(src.glob("**/*.rs"))}
        cls.order = ladder((paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))

    def test_table_names_every_module_once(self):
        self.assertEqual(sorted(self.order), sorted({module[0] for module in modules(self.sources).values()}))

    def test_imports_go_down(self):
        self.assertEqual(upwards(self.sources, self.order), [])

    def test_files_of_a_folder_import_one_way(self):
        self.assertEqual(circles(self.sources), [])

    def test_imports_are_found(self):
        # Every module imports something, but for the lowest, and the list of files in sql/.
        importing = {module[0] for module, targets in graph(self.sources).items() if any(t and t[0] != module[0] for t in targets)}
        self.assertLessEqual(set(self.order) - importing, {"bare_call", "error", "install", "interrupts", "nodes", "plan_cache", "processor", "sqlstate"})

    def test_planted_import_is_found(self):
        for line in [
            "use crate::status;",
            "use crate::status::Check;",
            "use crate::{error::Error, status::{self, Check}};",
            "use super::super::status;",
            "fn f() { crate::status::check() }",
        ]:
            with self.subTest(line):
                planted = {**self.sources, "keyring/table.rs": line + "\n" + self.sources["keyring/table.rs"]}
                self.assertEqual(upwards(planted, self.order), ["keyring::table -> status"])

    def test_planted_circle_is_found(self):
        for line in ["use super::table::KeyTable;", "use crate::keyring::{table, usage};"]:
            with self.subTest(line):
                planted = {**self.sources, "keyring/own_table.rs": line + "\n" + self.sources["keyring/own_table.rs"]}
                self.assertRegex("\n".join(circles(planted)), r"\Akeyring: .*\bown_table\b.*\btable\b.*\Z")

    def test_comments_and_tests_may_name_anything(self):
        text = "// crate::status\n#[cfg(test)]\nmod tests {\n    use crate::status;\n    fn f() {}\n}\n"
        self.assertEqual(imports(text, ("keyring", "table"), {("status",)}), set())


if __name__ == "__main__":
    unittest.main()
