"""What every source keeps to: format, sizes, plain text, shell and Python that parse, no local paths."""
import ast
import os
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
LINE_BYTES_MAX = 100
# Files whose bulk is a table, and copies of other people's text.
LONG_FILES = re.compile(r"LICENSE|docs/.*|tests/oracle/.*|.*\.(csv|txt|tsv|json|sql|md)|.*_table\.[ch]")
# Another machine's folders, and marks of work that is not finished.
LOCAL_PATH = re.compile(r"(?<![\w.$}/-])/(work|root|home)/")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")


def tracked():
    """Files of the working tree that git knows or would add, relative to the root."""
    output = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        check=False,
    )
    if output.returncode == 0:
        names = output.stdout.decode().split("\0")
        return sorted(n for n in names if n and (ROOT / n).is_file())
    paths = (p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in paths if p.parts[0] not in ("build", ".git"))


def text(name):
    return (ROOT / name).read_bytes().decode("utf-8")


def function_sizes(source):
    """(first line, lines of the body) of each function: its braces stand alone in column 0."""
    start = None
    for number, line in enumerate(source.splitlines(), 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield start, number - start - 1
            start = None


class Source(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = tracked()
        cls.c_files = [n for n in cls.files if n.endswith((".c", ".h"))]
        cls.plain = [
            n for n in cls.files
            if not re.search(r"\.(png|gz|db|safetensors|bin|ico|woff2?)$|tests/fuzz/|fixtures/", n)
        ]

    def test_sees_the_project(self):
        self.assertIn("lib/status.c", self.c_files)
        self.assertIn("CMakeLists.txt", self.plain)

    def test_format(self):
        for start in range(0, len(self.c_files), 50):
            subprocess.run(
                ["clang-format-14", "--dry-run", "--Werror"] + self.c_files[start : start + 50],
                cwd=ROOT,
                check=True,
            )

    def test_sizes(self):
        faults = []
        for name in self.c_files:
            lines = text(name).splitlines()
            if len(lines) > FILE_LINES_MAX and not LONG_FILES.fullmatch(name):
                faults.append(f"{name}: {len(lines)} lines, at most {FILE_LINES_MAX}")
            for number, line in enumerate(lines, 1):
                if len(line.expandtabs(8)) > LINE_BYTES_MAX:
                    faults.append(f"{name}:{number}: longer than {LINE_BYTES_MAX}")
            for number, size in function_sizes(text(name)):
                if size > FUNCTION_LINES_MAX:
                    faults.append(f"{name}:{number}: {size} lines, at most {FUNCTION_LINES_MAX}")
        self.assertEqual(faults, [])

    def test_size_of_a_function(self):
        self.assertEqual(list(function_sizes("int f(void)\n{\n    a;\n    b;\n}\n")), [(2, 2)])

    def test_headers_are_guarded(self):
        faults = [
            n for n in self.c_files
            if n.endswith(".h") and "/fixtures/" not in n and "Not a general header" not in text(n)
            and not re.search(r"^#ifndef \w+_H\n#define \w+_H$", text(n), re.M)
        ]
        self.assertEqual(faults, [])

    def test_no_local_paths_or_unfinished_marks(self):
        faults = []
        for name in self.plain:
            for number, line in enumerate(text(name).splitlines(), 1):
                if LOCAL_PATH.search(line) or UNFINISHED.search(line):
                    faults.append(f"{name}:{number}: {line.strip()[:80]}")
        self.assertEqual(faults, [])

    def test_local_path_is_noticed(self):
        self.assertTrue(LOCAL_PATH.search('open("/wo' 'rk/x")'))
        self.assertFalse(LOCAL_PATH.search("schema/wo" "rk/x"))

    def test_text_is_clean(self):
        faults = []
        for name in self.plain:
            content = text(name)
            if "\r" in content or (content and not content.endswith("\n")):
                faults.append(f"{name}: carriage return, or no newline at the end")
            if name.endswith((".c", ".h", ".py", ".sh")) and re.search(r"[ \t]+$", content, re.M):
                faults.append(f"{name}: white space at the end of a line")
        self.assertEqual(faults, [])

    def test_links_of_documents_lead_somewhere(self):
        faults = []
        for name in self.files:
            if not name.endswith(".md"):
                continue
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(name)):
                if "://" not in target and not (ROOT / name).parent.joinpath(target).exists():
                    faults.append(f"{name}: {target}")
        self.assertEqual(faults, [])

    def test_python_parses(self):
        for name in self.files:
            if name.endswith(".py"):
                ast.parse(text(name), name, feature_version=(3, 9))

    def test_scripts_parse_and_run(self):
        for name in self.files:
            if not name.startswith(("scripts/", ".ci/")) or name.endswith(".sh"):
                continue
            self.assertTrue(os.access(ROOT / name, os.X_OK), f"{name} is not executable")
            if text(name).startswith("#!/bin/sh"):
                subprocess.run(["sh", "-n", str(ROOT / name)], check=True)


if __name__ == "__main__":
    unittest.main()
