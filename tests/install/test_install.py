"""What `cmake --install` leaves can be used: by CMake, by pkg-config, and the programs run."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ["LYAP_BUILD_DIR"])


def run(*command, **more):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if result.returncode != 0:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.prefix = cls.folder / "prefix"
        run("cmake", "--install", str(BUILD), "--prefix", str(cls.prefix))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def assert_runs(self, program):
        self.assertIn("stability_ratio: url", run(str(program)))

    def test_cmake(self):
        build = self.folder / "build"
        run("cmake", "-S", str(HERE), "-B", str(build), f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", str(build))
        self.assert_runs(build / "consumer")

    def test_pkg_config(self):
        folders = [str(p.parent) for p in self.prefix.rglob("lyap.pc")]
        self.assertEqual(len(folders), 1)
        environment = dict(os.environ, PKG_CONFIG_PATH=folders[0])
        flags = run("pkg-config", "--cflags", "--libs", "lyap-client", env=environment).split()
        program = self.folder / "consumer"
        run("gcc", str(HERE / "consumer.c"), "-o", str(program), *flags)
        self.assert_runs(program)

    def test_headers_stand_alone_and_are_complete(self):
        include = self.prefix / "include"
        headers = sorted(p.relative_to(include).as_posix() for p in include.rglob("*.h"))
        self.assertIn("lyap/status.h", headers)
        self.assertIn("lyap_client.h", headers)
        for header in headers:
            run("gcc", "-std=c17", "-Werror", "-Wall", "-fsyntax-only", "-I", str(include), "-x", "c",
                "-include", header, "/dev/null")

    def test_daemon_says_its_version(self):
        self.assertIn("0.1.0", run(str(self.prefix / "bin" / "lyapd"), "--version"))

    def test_unit_file_is_installed(self):
        self.assertTrue(list(self.prefix.rglob("lyapd.service")))

    def test_licence_is_installed(self):
        self.assertTrue(list(self.prefix.rglob("LICENSE")))


if __name__ == "__main__":
    unittest.main()
