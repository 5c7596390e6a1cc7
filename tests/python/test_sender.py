"""The background thread: order, bounds, retries, the spool, an end in bounded time."""

import logging
import os
import shutil
import tempfile
import time
import unittest

from fake import Daemon, eventually, free_port
import lyapd
from lyapd import http, wire
from lyapd.sender import Item, Limits, Sender

logging.disable(logging.WARNING)


def item_of(step, values=1, **more):
    parts = wire.encode({"param": {"w": [float(step)] * values}}, {"step": step})
    return Item(step, parts, **more)


class Base(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(lambda: self.daemon.close())
        self.lost, self.replies = [], []

    def sender(self, url=None, **options):
        options.setdefault("attempt_key", "key")
        sender = Sender(http.Connection(url or self.daemon.url, timeout=2.0), "r",
                        {"optimizer": {"type": "sgd"}, "layers": [{"kind": "linear"}]},
                        on_reply=lambda item, reply: self.replies.append((item.step, reply)),
                        on_lost=lambda item: self.lost.append(item.step), **options)
        self.addCleanup(sender.close, 1.0)
        return sender

    def steps(self):
        return [request.step for request in self.daemon.pushes]


class Sending(Base):
    def test_declares_once_and_sends_in_order(self):
        sender = self.sender()
        for step in range(20):
            sender.put(item_of(step))
        self.assertTrue(sender.flush(5))
        self.assertEqual(self.steps(), list(range(20)))
        self.assertEqual(len(self.daemon.puts), 1)
        self.assertEqual(self.daemon.puts[0].json(), {
            "optimizer": {"type": "sgd"}, "layers": [{"kind": "linear"}],
            "attempt": "new", "attempt_key": "key"})
        query = self.daemon.pushes[0].query
        self.assertLess(abs(float(query.pop("sent")) - time.time()), 600)
        self.assertEqual(query, {"attempt": "1"})
        self.assertEqual([step for step, _ in self.replies], list(range(20)))
        sender.close(2)
        self.assertEqual(self.daemon.puts[-1].json(), {"ended": True})

    def test_put_never_waits_and_drops_the_oldest(self):
        self.daemon.answer = lambda request: "hang" if request.is_push else None
        sender = self.sender(limits=Limits(queue_count=4))
        sender.put(item_of(0))
        self.assertTrue(eventually(lambda: len(self.daemon.pushes) == 1))
        started = time.perf_counter()
        for step in range(1, 1001):
            sender.put(item_of(step))
        self.assertLess(time.perf_counter() - started, 1.0)
        self.assertEqual(self.lost, list(range(1, 997)))
        self.assertEqual(sender.dropped, 996)
        self.daemon.answer = lambda request: None
        self.assertTrue(sender.flush(10))
        self.assertEqual(self.steps()[-4:], [997, 998, 999, 1000])
        told = [request.query.get("x-dropped") for request in self.daemon.pushes]
        self.assertEqual([count for count in told if count], ["996"])

    def test_bytes_bound_the_queue_and_the_newest_always_stays(self):
        self.daemon.answer = lambda request: "hang"
        sender = self.sender(limits=Limits(queue_bytes=10000))
        for step in range(5):
            sender.put(item_of(step, values=500))
        self.assertLessEqual(sum(item.bytes for item in sender._queue), 10000)
        sender.put(item_of(9, values=5000))
        self.assertEqual([item.step for item in sender._queue], [9])

    def test_a_broken_push_is_sent_again_and_a_duplicate_is_success(self):
        broken = []

        def answer(request):
            if request.is_push and request.step == 2 and not broken:
                broken.append(self.daemon.usual(request))  # stored, but the answer is lost
                return "cut"
            return None
        self.daemon.answer = answer
        sender = self.sender()
        for step in range(4):
            sender.put(item_of(step))
        self.assertTrue(sender.flush(5))
        self.assertEqual(self.steps(), [0, 1, 2, 2, 3])
        self.assertEqual([reply["status"] for _, reply in self.replies],
                         ["accepted", "accepted", "duplicate", "accepted"])

    def test_a_full_daemon_is_asked_again_after_what_it_says(self):
        left = [True]

        def answer(request):
            if request.is_push and left:
                left.pop()
                return 503, {"type": "/problems/queue-full"}, {"Retry-After": "0.1"}
            return None
        self.daemon.answer = answer
        sender = self.sender()
        sender.put(item_of(0))
        self.assertTrue(sender.flush(5))
        self.assertEqual((self.steps(), sender.dropped, sender.refused), ([0, 0], 0, 0))

    def test_a_refused_snapshot_is_counted_and_the_next_goes(self):
        self.daemon.answer = lambda request: (
            (400, {"type": "/problems/format", "title": "Bad Request", "detail": "holes"})
            if request.is_push and request.step == 1 else None)
        sender = self.sender()
        for step in range(3):
            sender.put(item_of(step))
        self.assertTrue(sender.flush(5))
        self.assertEqual((sender.sent, sender.refused, self.lost), (2, 1, [1]))
        self.assertIn("holes", sender.errors[-1])

    def test_a_later_attempt_silences_this_one(self):
        self.daemon.answer = lambda request: (
            (409, {"type": "/problems/stale-attempt"}) if request.is_push else None)
        sender = self.sender()
        sender.put(item_of(0))
        self.assertTrue(eventually(lambda: not sender._thread.is_alive()))
        self.assertFalse(sender.is_usable)
        sender.close(1)
        self.assertFalse(any("ended" in put.json() for put in self.daemon.puts))

    def test_a_refused_declaration_gives_way_piece_by_piece(self):
        self.daemon.answer = lambda request: (
            (400, {"title": "unknown kind"})
            if request.method == "PUT" and "layers" in request.json() else None)
        sender = self.sender()
        sender.put(item_of(0))
        self.assertTrue(sender.flush(5))
        self.assertNotIn("layers", self.daemon.puts[-1].json())
        self.assertIn("optimizer", self.daemon.puts[-1].json())
        self.assertIn("unknown kind", sender.errors[0])

    def test_attempts_follow_each_other(self):
        sender = self.sender()
        sender.put(item_of(5))
        sender.begin_attempt()
        sender.put(item_of(3))
        self.assertTrue(sender.flush(5))
        self.assertEqual([put.json()["attempt_key"] for put in self.daemon.puts], ["key", "key.1"])
        self.assertEqual([(push.query["attempt"], push.step) for push in self.daemon.pushes],
                         [("1", 5), ("2", 3)])

    def test_close_is_bounded_when_the_daemon_hangs(self):
        self.daemon.answer = lambda request: "hang" if request.is_push else None
        sender = self.sender()
        sender.put(item_of(0))
        started = time.monotonic()
        sender.close(0.3)
        self.assertLess(time.monotonic() - started, 2.0)
        self.assertTrue(eventually(lambda: not sender._thread.is_alive(), 3))

    def test_close_is_quick_without_a_daemon(self):
        sender = self.sender(url="http://127.0.0.1:%d" % free_port())
        for step in range(3):
            sender.put(item_of(step))
        self.assertTrue(eventually(lambda: sender.is_down))
        started = time.monotonic()
        sender.close(5.0)
        self.assertLess(time.monotonic() - started, 1.0)
        self.assertEqual((sender.dropped, self.lost), (3, [0, 1, 2]))

    def test_a_daemon_that_comes_later_gets_everything(self):
        port = free_port()
        sender = self.sender(url="http://127.0.0.1:%d" % port)
        for step in range(3):
            sender.put(item_of(step))
        self.assertTrue(eventually(lambda: sender.is_down))
        with Daemon(port) as late:
            self.assertTrue(sender.flush(10))
            self.assertEqual([request.step for request in late.pushes], [0, 1, 2])
            self.assertEqual(late.requests[0].method, "PUT")
            sender.close(2)

    def test_buffers_come_back(self):
        released = []
        sender = self.sender()
        sender.put(item_of(0, release=lambda: released.append(0)))
        self.assertTrue(sender.flush(5))
        self.assertTrue(eventually(lambda: released == [0]))


class Spooling(Base):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)

    def files(self):
        return sorted(name for _, _, names in os.walk(self.folder) for name in names)

    def test_goes_to_disk_and_is_sent_in_order_when_the_daemon_comes(self):
        port = free_port()
        sender = self.sender(url="http://127.0.0.1:%d" % port, spool=self.folder,
                             limits=Limits(queue_count=2))
        for step in range(10):
            sender.put(item_of(step))
            time.sleep(0.02)
        self.assertTrue(eventually(lambda: not sender._queue))
        self.assertEqual(len(self.files()), 11)
        with Daemon(port) as late:
            self.assertTrue(sender.flush(10))
            self.assertEqual([request.step for request in late.pushes], list(range(10)))
            self.assertEqual(sender.dropped, 0)
            sender.close(2)
        self.assertEqual(self.files(), [])

    def test_what_is_left_is_sent_by_hand(self):
        sender = self.sender(url="http://127.0.0.1:%d" % free_port(), spool=self.folder)
        for step in range(4):
            sender.put(item_of(step))
        sender.close(3)
        self.assertEqual(len(self.files()), 5)
        counts = lyapd.send_spool(self.folder, self.daemon.url)
        self.assertEqual(counts, {"sent": 4, "duplicate": 0, "refused": 0})
        self.assertEqual(self.steps(), [0, 1, 2, 3])
        self.assertEqual(self.daemon.puts[0].json()["attempt_key"], "key")
        self.assertEqual(os.listdir(self.folder), [])

    def test_the_next_life_sends_it_before_it_opens_its_attempt(self):
        sender = self.sender(url="http://127.0.0.1:%d" % free_port(), spool=self.folder)
        sender.put(item_of(7))
        sender.close(3)
        second = self.sender(spool=self.folder, attempt_key="second")
        second.put(item_of(0))
        self.assertTrue(second.flush(5))
        self.assertEqual([(push.query["attempt"], push.step) for push in self.daemon.pushes],
                         [("1", 7), ("2", 0)])

    def test_the_spool_is_bounded(self):
        size = item_of(0, values=100).bytes
        sender = self.sender(url="http://127.0.0.1:%d" % free_port(), spool=self.folder,
                             limits=Limits(spool_bytes=3 * size + 50))
        for step in range(8):
            sender.put(item_of(step, values=100))
        sender.close(3)
        names = [name for name in self.files() if name.endswith(".safetensors")]
        self.assertEqual(names, ["%012d.safetensors" % i for i in (5, 6, 7)])
        self.assertEqual(sender.dropped, 5)

    def test_a_disk_that_refuses_costs_snapshots_only(self):
        blocked = os.path.join(self.folder, "file")
        with open(blocked, "w"):
            pass
        sender = self.sender(url="http://127.0.0.1:%d" % free_port(), spool=blocked)
        sender.put(item_of(0))
        self.assertTrue(eventually(lambda: self.lost == [0]))
        self.assertTrue(any("spool" in text for text in sender.errors))


if __name__ == "__main__":
    unittest.main()
