"""The edges between the folders (HACKING.md) hold, and liblyap's objects reach no operating system."""
import os
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("LYAP_BUILD_DIR", ROOT / "build"))
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)

# What one folder may see of another; everything else of it is private.
PUBLIC = {
    "lib": ("lib/include/",),
    "lib/wire": ("lib/wire/include/",),
    "schema": ("schema/store.h",),
    "api": ("api/api.h",),
    "daemon": (),
    "clients": (),
}

# Libraries by the files that may include them; a pattern is matched against the path of the file.
LIBRARIES = {
    r"jansson\.h": r"lib/wire/|api/(codec|json_)|daemon/|clients/",
    r"microhttpd\.h": r"api/http",
    r"sqlite3\.h": r"schema/",
    r"curl/": r"daemon/|clients/",
    r"cblas\.h|lapack.*\.h|openblas.*\.h": r"lib/(?!wire/)|clients/c/examples/",
    r"gnutls/": r"api/|daemon/|clients/",
    r"systemd/": r"daemon/",
    r"pthread\.h|threads\.h|semaphore\.h|stdatomic\.h": r"schema/|api/|daemon/|clients/",
}
C_HEADERS = set(
    """assert ctype errno float inttypes limits math stdalign stdarg stdbool stddef stdint stdio stdlib
    string immintrin cblas""".split()
)

# What liblyap may ask of its surroundings: C's memory, string and mathematical functions.
LIB_SYMBOLS = re.compile(
    r"""lyap_\w+|mem(cpy|move|set|cmp|chr)|str(n?cmp|n?len|r?chr|tod|tol|toll|toul|toull|spn|cspn|str|
    pbrk)|v?snprintf|(bsearch|qsort|abort|__assert_fail|__stack_chk_fail|__errno_location)|
    __ctype_(b|tolower|toupper)_loc|tolower|toupper|is(alnum|alpha|digit|space|xdigit)|
    __isoc(99|23)_(sscanf|strto\w+)|__(mem\w+|str\w+|v?snprintf)_chk|
    __cpu_(model|indicator_init|features2?)|_GLOBAL_OFFSET_TABLE_|
    (f?abs|sqrt|hypot|exp|exp2|expm1|log|log2|log10|log1p|pow|sin|cos|tan|tanh|atan|atan2|acos|asin|
    floor|ceil|trunc|l?l?rint|l?l?round|nearbyint|fmin|fmax|fmod|remainder|ldexp|frexp|scalbn|scalbln|
    ilogb|logb|copysign|nextafter|erfc?|cbrt|fma|sincos|modf|lgamma|tgamma)f?|
    cblas_\w+|LAPACKE_\w+|[dz]\w+_|openblas_set_num_threads(_local)?|__(asan|ubsan|tsan|sancov|lsan)_\w+|
    __sanitizer_\w+|__gcov_\w+""",
    re.X,
)
# Public functions that only tests call, and why they are there.
KEPT = {
    "lyap_transition_adam3": "SPEC 2.6 lists it and 7.8 tests it; no push shows what it needs",
}

ALLOC_SYMBOLS = re.compile(r"malloc|calloc|free|aligned_alloc|posix_memalign")


def allowed_edges():
    """{folder: set of folders} from the table of HACKING.md."""
    edges = {}
    for line in (ROOT / "HACKING.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"`[a-z/]+/`", cells[0]):
            edges[cells[0].strip("`/")] = set(re.findall(r"`([a-z/]+)`", cells[2]))
    return edges


def folder_of(path):
    """The folder of the edge list that a file belongs to, or None (tests, benches)."""
    for folder in sorted(PUBLIC, key=len, reverse=True):
        if path.startswith(folder + "/"):
            return folder
    return None


def sources(pattern):
    """Paths of the sources in the folders of the edge list, relative to the root."""
    for folder in PUBLIC:
        for path in sorted((ROOT / folder).rglob(pattern)):
            relative = path.relative_to(ROOT).as_posix()
            if folder_of(relative) == folder and "/build/" not in relative:
                yield relative


class Edges(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.edges = allowed_edges()
        cls.headers = list(sources("*.h"))
        cls.files = cls.headers + list(sources("*.c"))

    def test_table_names_every_folder(self):
        self.assertEqual(set(self.edges), set(PUBLIC))

    def test_finds_the_sources(self):
        self.assertIn("lib/status.c", self.files)
        self.assertIn("lib/wire/include/lyap/wire.h", self.headers)

    def test_public_functions_have_callers(self):
        """Of a program, a library or a benchmark: what only tests call is a second version of what runs."""
        comment = re.compile(r"/\*.*?\*/", re.S)
        public = set()
        for header in self.headers:
            if header.startswith("lib/") and "/include/" in header:
                public |= set(re.findall(r"\b(lyap_\w+)\(", comment.sub("", (ROOT / header).read_text())))
        self.assertIn("lyap_status_text", public)
        called = set()
        makers = ["tests/lib/metrics_doc.c"]  # of docs/metrics.md
        for path in self.files + makers + [p.relative_to(ROOT).as_posix() for p in (ROOT / "bench").rglob("*.[ch]")]:
            if "/include/" not in path:  # a definition begins in the first column
                code = comment.sub("", (ROOT / path).read_text())
                called |= set(re.findall(r"\blyap_\w+", "\n".join(re.findall(r"^[ \t#].*", code, re.M))))
        self.assertEqual(sorted(public - called), sorted(KEPT))

    def owners(self, name, folder):
        """Headers a quoted include may mean; the including folder's own ones win."""
        found = [h for h in self.headers if ("/" + h).endswith("/" + name)]
        return [h for h in found if folder_of(h) == folder] or found

    def quoted_fault(self, path, name):
        folder = folder_of(path)
        owners = self.owners(name, folder)
        if not owners:
            return f'{path}: "{name}" is no header of the project'
        owner = owners[0]
        target = folder_of(owner)
        if target == folder:
            return None
        if target not in self.edges[folder]:
            return f"{path}: {folder} may not use {target} ({name})"
        if not owner.startswith(PUBLIC[target]):
            return f"{path}: {owner} is private to {target}"
        return None

    def system_fault(self, path, name):
        for library, users in LIBRARIES.items():
            if re.match(library, name):
                return None if re.match(users, path) else f"{path}: <{name}> does not belong here"
        in_lib = folder_of(path) in ("lib", "lib/wire")
        if in_lib and name.removesuffix(".h") not in C_HEADERS:
            return f"{path}: <{name}> is more than C offers"
        return None

    def test_includes_keep_to_the_edges(self):
        faults = []
        for path in self.files:
            for kind, name in INCLUDE.findall((ROOT / path).read_text()):
                fault = (self.quoted_fault if kind == '"' else self.system_fault)(path, name)
                if fault:
                    faults.append(fault)
        self.assertEqual(faults, [])

    def test_a_forbidden_include_is_noticed(self):
        self.assertIn("may not use", self.quoted_fault("lib/status.c", "store.h"))
        self.assertIn("may not use", self.quoted_fault("schema/x.c", "api.h"))
        self.assertIn("private", self.quoted_fault("api/x.c", "names.h"))
        self.assertIn("more than C", self.system_fault("lib/status.c", "unistd.h"))
        self.assertIn("not belong", self.system_fault("api/route.c", "microhttpd.h"))
        self.assertIn("not belong", self.system_fault("lib/status.c", "pthread.h"))


class Symbols(unittest.TestCase):
    def undefined(self):
        """{object: [undefined symbols]} of liblyap."""
        archive = BUILD / "lib" / "liblyap.a"
        self.assertTrue(archive.exists(), f"{archive} is not built")
        text = subprocess.run(
            ["nm", "-u", str(archive)], check=True, capture_output=True, text=True
        ).stdout
        objects, name = {}, None
        for line in text.splitlines():
            if line.endswith(":"):
                name = line[:-1]
                objects[name] = []
            elif line.strip():
                objects[name].append(line.split()[-1])
        return objects

    def test_every_source_is_in_the_archive(self):
        lib = ROOT / "lib"
        sources_of_lib = {p.name for p in [*lib.glob("*.c"), *lib.glob("kernels/*.c")]}
        self.assertGreater(len(sources_of_lib), 0)
        self.assertEqual({o.removesuffix(".o") for o in self.undefined()}, sources_of_lib)

    def test_objects_need_nothing_of_the_operating_system(self):
        faults = []
        for name, symbols in self.undefined().items():
            for symbol in symbols:
                is_allocation = name == "alloc.c.o" and ALLOC_SYMBOLS.fullmatch(symbol)
                if not is_allocation and not LIB_SYMBOLS.fullmatch(symbol):
                    faults.append(f"{name}: {symbol}")
        self.assertEqual(faults, [])

    def test_the_list_refuses_the_operating_system(self):
        for symbol in "open write read printf puts fopen clock_gettime time pthread_create rand".split():
            self.assertIsNone(LIB_SYMBOLS.fullmatch(symbol), symbol)


if __name__ == "__main__":
    unittest.main()
