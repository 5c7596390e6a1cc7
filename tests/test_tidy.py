"""clang-tidy finds nothing in any source of the build (.clang-tidy); results are kept by content."""
import hashlib
import json
import os
import subprocess
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("LYAP_BUILD_DIR", ROOT / "build"))
KEPT = BUILD / "tidy"


def units():
    """C sources of this project in the compilation database."""
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    files = {Path(e["file"]).resolve() for e in entries if e["file"].endswith(".c")}
    return sorted(f for f in files if ROOT in f.parents and BUILD not in f.parents)


def headers_digest():
    """Changes with any header, with the settings and with how things are compiled."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.h")) + [ROOT / ".clang-tidy", ROOT / "cmake" / "lyap.cmake"]:
        if "build" not in path.relative_to(ROOT).parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def tidy(path, common):
    """What clang-tidy says of one source; nothing for one that was clean before."""
    digest = hashlib.sha256(f"{common} {path}".encode() + path.read_bytes()).hexdigest()
    mark = KEPT / digest
    if mark.exists():
        return ""
    result = subprocess.run(
        ["clang-tidy-14", "--quiet", "-p", str(BUILD), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        return result.stdout + (result.stderr if not result.stdout else "")
    mark.touch()
    return ""


class Tidy(unittest.TestCase):
    def test_every_source_is_clean(self):
        KEPT.mkdir(exist_ok=True)
        files = units()
        self.assertIn(ROOT / "lib" / "status.c", files)
        common = headers_digest()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            findings = [f for f in pool.map(lambda path: tidy(path, common), files) if f]
        self.assertEqual(findings, [], "\n".join(findings))


if __name__ == "__main__":
    unittest.main()
