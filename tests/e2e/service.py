"""The real daemon, for tests: started on a free loopback port with a database of its own."""

import os
import signal
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "clients", "python"))
BUILD = os.environ.get("LYAP_BUILD_DIR", os.path.join(ROOT, "build"))
READY_SECONDS = 20


class Service:
    """`with Service() as daemon:`; daemon.url; `flags` are lyapd's. kill() is kill -9; start() again keeps port and
    database."""

    def __init__(self, *flags):
        self.flags = list(flags)
        self.folder = tempfile.mkdtemp(prefix="lyapd-e2e-")
        self.database = os.path.join(self.folder, "lyapd.db")
        self.address = "127.0.0.1:0"
        self.url = None
        self.errors = open(os.path.join(self.folder, "log"), "a")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "bin", "lyapd"), "--listen", self.address, "--db", self.database,
             *self.flags],
            stdout=subprocess.PIPE, stderr=self.errors, text=True)
        timer = threading.Timer(READY_SECONDS, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if "listening on " in line:
                    self.url = line.split("listening on ")[1].strip()
                    self.address = self.url.split("//")[1]
                    break
            else:
                raise AssertionError("lyapd did not start:\n" + self.log())
        finally:
            timer.cancel()
        return self

    def log(self):
        with open(os.path.join(self.folder, "log")) as file:
            return file.read()[-4000:]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdout.close()

    def stop(self):
        """As systemd stops it; it must end by itself within 10 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("lyapd did not end within 10 s of SIGTERM")
        return self.process.returncode

    def close(self):
        try:
            code = self.stop()
            assert code in (0, -signal.SIGKILL), "lyapd ended with %s:\n%s" % (code, self.log())
        finally:
            self.process.stdout.close()
            self.errors.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def eventually(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
