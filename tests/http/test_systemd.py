"""The unit is valid and hardened, and the daemon speaks sd_notify."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from blackbox import BINARY, BUILD, Daemon

ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = "20"  # in tenths: 2.0 of 10, "OK" begins at 4.0


class Unit(unittest.TestCase):
    def setUp(self):
        if not ANALYZE:
            self.skipTest("systemd-analyze is not installed")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.unit = os.path.join(self.folder.name, "lyapd.service")
        text = (BUILD / "systemd" / "lyapd.service").read_text()
        lines = [
            "ExecStart=" + os.path.abspath(BINARY) if l.startswith("ExecStart=") else l
            for l in text.splitlines()
        ]
        self.assertIn("Type=notify", lines)
        with open(self.unit, "w") as out:
            out.write("\n".join(lines) + "\n")

    def test_verify(self):
        done = subprocess.run(
            [ANALYZE, "verify", "--man=no", "--recursive-errors=no", self.unit],
            capture_output=True,
            text=True,
            timeout=60,
        )
        about_us = [l for l in done.stderr.splitlines() if "lyapd" in l and "Failed to get credential" not in l]
        self.assertEqual((done.returncode, about_us), (0, []), done.stderr)

    def test_security(self):
        done = subprocess.run(
            [ANALYZE, "security", "--offline=true", "--no-pager", "--threshold=" + EXPOSURE_MAX, self.unit],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-400:] + done.stderr)


class Notify(unittest.TestCase):
    def test_ready_watchdog_reload_and_stopping(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.bind(path)
                notify.settimeout(30)
                daemon = Daemon(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
                self.addCleanup(daemon.close)
                self.assertIn("READY=1", notify.recv(4096).decode())
                for _ in range(3):
                    self.assertEqual(notify.recv(4096).decode(), "WATCHDOG=1")
                daemon.process.send_signal(signal.SIGHUP)
                self.assertIn("RELOADING=1", self.skip_watchdog(notify))
                self.assertIn("READY=1", self.skip_watchdog(notify))
                self.assertEqual(daemon.stop(), 0)
                self.assertIn("STOPPING=1", self.skip_watchdog(notify))

    @staticmethod
    def skip_watchdog(notify):
        while True:
            text = notify.recv(4096).decode()
            if text != "WATCHDOG=1":
                return text


if __name__ == "__main__":
    unittest.main()
