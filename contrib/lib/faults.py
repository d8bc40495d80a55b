"""The runs of contrib/faults: a filter in which one call fails, then a filter without faults on the files that it left."""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter

KINDS = ["open", "read", "write", "truncate", "sync", "rename", "unlink", "mmap", "lock", "memory"]
ERRORS = {
    "open": ["EACCES", "EMFILE", "EIO", "ENOSPC"],
    "read": ["EIO"],
    "write": ["ENOSPC", "EIO", "SHORT"],
    "truncate": ["EIO", "ENOSPC"],
    "sync": ["EIO", "ENOSPC"],
    "rename": ["EACCES", "ENOSPC", "EIO"],
    "unlink": ["EACCES"],
    "mmap": ["ENOMEM", "EACCES"],
    "lock": ["ENOLCK"],
    "memory": ["ENOMEM"],
}
NAME_SIZE, FILES = 88, 160
ENTRY = struct.Struct(f"={NAME_SIZE}s{len(KINDS)}I")
HEAD = struct.Struct("=I252s")

KNOWN = [f"user{n}@example.com" for n in range(60)]
SECOND = [f"new{n}@example.com" for n in range(4)]
THIRD = [f"newer{n}@example.com" for n in range(4)]
REFUSALS = 200

# Output of a crash, and of Swift before it.
CRASH = re.compile(r"Fatal error|Crash|Thread \d+ crashed|Assertion|SIGILL|SIGSEGV|SIGABRT")
# A filter may refuse to start only without its configuration or its socket, or if it can read neither the index nor the sources.
MAY_REFUSE = re.compile(r"/(postern\.toml|milter\.sock)[^/]*$")

CONFIGURATION = """\
[milter]
socket = "unix:{box}/milter.sock"
[relay]
domains = ["example.com"]
[harvest]
limit = 0
[index]
path = "recipients.index"
[sync]
state = "sync.sqlite"
interval = "1s"
max_shrink = "50%"
[[source]]
name = "people"
type = "file"
format = "list"
path = "people.list"
[log]
database = "rejections.sqlite"
"""


class Wrong(Exception):
    """A wrong behaviour of the filter."""


class Connection:
    """A connection of an MTA to the filter."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        try:
            self.socket.connect(path)
            self.send(b"O", struct.pack(">III", 6, 0x1FF, 0x1FFFFF))
            letter, data = self.answer()
            if letter != b"O":
                raise Wrong(f"the filter answered the negotiation with {letter!r}")
            protocol = struct.unpack(">III", data[:12])[2]
            self.step(b"C", b"client.example\0" b"4" + struct.pack(">H", 40000) + b"203.0.113.7\0", protocol, 0x1, 0x1000)
            self.step(b"H", b"client.example\0", protocol, 0x2, 0x2000)
            self.step(b"M", b"<sender@client.example>\0", protocol, 0x4, 0x4000)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.send(b"Q", b"")
        except OSError:
            pass
        self.socket.close()

    def send(self, letter, data):
        self.socket.sendall(struct.pack(">I", 1 + len(data)) + letter + data)

    def step(self, letter, data, protocol, unwanted, unanswered):
        if protocol & unwanted:
            return
        self.send(letter, data)
        if not protocol & unanswered:
            self.answer()

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise Wrong("the filter closed a connection")
            data += part
        return data

    def answer(self):
        packet = self.receive(struct.unpack(">I", self.receive(4))[0])
        return packet[:1], packet[1:]

    def ask(self, recipient):
        """Asks about a recipient; returns the reply's code: 250, 550, 554, 451 …"""
        self.send(b"R", b"<" + recipient.encode() + b">\0")
        letter, data = self.answer()
        if letter == b"y":
            return int(data[:3])
        return {b"c": 250, b"a": 250, b"r": 550, b"t": 451}.get(letter, -1)


class Filter:
    """A running `postern serve`."""

    def __init__(self, place, fault):
        self.place = place
        self.messages_path = os.path.join(place.folder, "messages")
        self.recorded = Counter()
        with open(self.messages_path, "wb") as messages:
            self.process = subprocess.Popen(
                [place.program, "serve", "--config", place.file("postern.toml")],
                stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, env=place.environment(fault))

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def messages(self):
        with open(self.messages_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def check_end(self):
        """Raises an error if the process has ended."""
        status = self.process.poll()
        if status is not None:
            raise Wrong(f"the filter ended {describe(status)}")

    def connect(self, patience=10):
        deadline = time.monotonic() + patience
        while True:
            try:
                return Connection(self.place.file("milter.sock"))
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    return None
                if time.monotonic() > deadline:
                    raise Wrong(f"the filter doesn't listen within {patience} s")
                time.sleep(0.004)

    def ask(self, connection, recipient):
        try:
            code = connection.ask(recipient)
        except (TimeoutError, socket.timeout):
            raise Wrong(f"no answer to {recipient} within 10 s")
        except OSError as error:
            self.check_end()
            raise Wrong(f"the connection failed at {recipient}: {error}")
        self.recorded[{2: "accepted", 4: "tempfailed", 5: "refused"}.get(code // 100, "other")] += 1
        return code

    def expect(self, connection, recipient, expected, may_defer=False):
        code = self.ask(connection, recipient)
        if code != expected and not (may_defer and code // 100 == 4):
            raise Wrong(f"{recipient} was answered with {code}, expected {expected}")
        return code

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(9)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Wrong("the filter didn't end within 9 s of SIGTERM")


def describe(status):
    return f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


class Place:
    """The folder of one worker, with a filter's files."""

    def __init__(self, folder, options):
        self.folder = folder
        self.box = os.path.join(folder, "box")
        self.template = os.path.join(folder, "template")
        self.counts = os.path.join(folder, "counts")
        self.program = options.program
        self.library = options.library
        self.everywhere = options.everywhere
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(self.box)

    def file(self, name):
        return os.path.join(self.box, name)

    def environment(self, fault, counting=True):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("POSTERN", "LD_", "SWIFT_"))}
        environment |= {"LD_PRELOAD": self.library, "SWIFT_BACKTRACE": "enable=no", "POSTERN_FAULTS_PARENT": str(os.getpid())}
        if counting:
            environment |= {"POSTERN_FAULTS_ROOT": self.box, "POSTERN_FAULTS_COUNT": self.counts}
            if self.everywhere:
                environment["POSTERN_FAULTS_ALL"] = "1"
        if fault:
            environment["POSTERN_FAULT"] = fault
        return environment

    def list(self, recipients):
        with open(self.file("people.list.x"), "w", encoding="utf-8") as file:
            file.write("".join(f"{recipient}\n" for recipient in recipients))
        os.rename(self.file("people.list.x"), self.file("people.list"))

    def run(self, *arguments, expect=(0,)):
        """Runs a command and returns its output; raises an error if its status isn't one of those expected."""
        try:
            result = subprocess.run(
                [self.program, *arguments, "--config", self.file("postern.toml")], stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=20, env=self.environment(None, counting=False))
        except subprocess.TimeoutExpired:
            raise Wrong(f"postern {' '.join(arguments)} didn't end within 20 s")
        if result.returncode not in expect:
            raise Wrong(f"postern {' '.join(arguments)} ended {describe(result.returncode)}:\n{result.stdout}{result.stderr}")
        return result.stdout

    def totals(self):
        totals = json.loads(self.run("report", "--since", "1d", "--format", "json"))["totals"]
        return Counter({key: totals[key] for key in ("refused", "accepted", "tempfailed")})

    def prepare(self):
        """Makes the files of a filter after some use, with which each run begins."""
        with open(self.file("postern.toml"), "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(box=self.box))
        self.list(KNOWN)
        self.run("sync", "--once")
        postern = Filter(self, None)
        try:
            connection = postern.connect()
            if connection is None:
                raise Wrong(f"the filter doesn't start: {postern.messages}")
            with connection:
                for number in range(20):
                    postern.expect(connection, f"nobody{number}@example.com", 550)
                postern.expect(connection, KNOWN[0], 250)
            if status := postern.stop():
                raise Wrong(f"the filter ended {describe(status)}: {postern.messages}")
        finally:
            postern.kill()
        self.before = self.totals()
        self.list(KNOWN + SECOND)
        os.rename(self.box, self.template)

    def renew(self):
        shutil.rmtree(self.box, ignore_errors=True)
        shutil.copytree(self.template, self.box, symlinks=True)
        if os.path.exists(self.counts):
            os.unlink(self.counts)

    def read_counts(self):
        """Returns how many calls have failed, the path of the first, and the counts by kind and file."""
        with open(self.counts, "rb") as file:
            data = file.read()
        fired, first = HEAD.unpack_from(data)
        counts = {}
        for number in range(FILES):
            name, *numbers = ENTRY.unpack_from(data, HEAD.size + number * ENTRY.size)
            for kind, count in zip(KINDS, numbers):
                if count:
                    counts[kind, name.rstrip(b"\0").decode()] = count
        return fired, first.split(b"\0")[0].decode(errors="replace"), counts


class Run:
    """A run with one fault; `fault` is None for a run that only counts."""

    def __init__(self, place, fault):
        self.place = place
        self.fault = fault
        self.kind = fault.split("@")[0] if fault else None
        self.lasts = bool(fault) and "+:" in fault
        self.messages = ""
        self.first = ""
        self.fired = 0
        self.counts = {}
        # The answers of the filter by outcome.
        self.recorded = Counter()

    def whole(self):
        self.place.renew()
        self.broken()
        self.clean()

    def may_defer(self):
        """A tempfail is right only while the filter couldn't read the index file."""
        fired, first, _ = self.place.read_counts()
        return fired > 0 and (first.endswith("recipients.index") or first.endswith("/memory") or self.lasts and self.kind in ("open", "read", "memory"))

    def broken(self):
        postern = Filter(self.place, self.fault)
        try:
            self.scenario(postern)
        finally:
            postern.kill()
            self.messages = postern.messages
            self.recorded = postern.recorded
            self.fired, self.first, self.counts = self.place.read_counts()
        if CRASH.search(self.messages):
            raise Wrong("the messages show a crash")

    def scenario(self, postern):
        connection = postern.connect()
        if connection is None:
            return self.refused(postern)
        new = SECOND[0]
        with connection:
            postern.expect(connection, KNOWN[1], 250, self.may_defer())
            postern.expect(connection, "nobody@example.com", 550, self.may_defer())
            postern.expect(connection, "x@elsewhere.example", 554)
            for number in range(REFUSALS):
                postern.expect(connection, f"stranger{number}@example.com", 550, self.may_defer())
                if number % 20 == 0:
                    postern.expect(connection, KNOWN[number % len(KNOWN)], 250, self.may_defer())
        self.await_recipient(postern, new)
        self.place.list(KNOWN + SECOND + THIRD)
        # The reload syncs the changed list.
        postern.process.send_signal(signal.SIGUSR1)
        self.await_recipient(postern, THIRD[0])
        with postern.connect() or self.gone(postern) as connection:
            postern.expect(connection, KNOWN[2], 250, self.may_defer() and self.lasts)
            postern.expect(connection, "nobody@example.com", 550, self.may_defer() and self.lasts)
            postern.expect(connection, "x@elsewhere.example", 554)
        status = postern.stop()
        if status != 0:
            raise Wrong(f"after SIGTERM the filter ended {describe(status)}")

    def gone(self, postern):
        postern.check_end()
        raise Wrong("the filter no longer listens")

    def await_recipient(self, postern, recipient):
        """Waits until a new recipient is accepted; if only one call failed, it must be, within seconds and without help."""
        started = time.monotonic()
        with postern.connect() or self.gone(postern) as connection:
            while True:
                postern.check_end()
                code = postern.ask(connection, recipient)
                if code == 250:
                    return
                if code != 550 and not (self.may_defer() and code // 100 == 4):
                    raise Wrong(f"{recipient} was answered with {code}")
                waited = time.monotonic() - started
                if self.lasts and waited > 0.4 and self.place.read_counts()[0]:
                    return
                if waited > 10:
                    raise Wrong(f"{recipient}, which was added to the list, is still answered with {code}")
                postern.expect(connection, KNOWN[3], 250, self.may_defer())
                time.sleep(0.02)

    def refused(self, postern):
        status = postern.process.wait()
        fired, first, _ = self.place.read_counts()
        if not 64 <= status <= 78:
            raise Wrong(f"the filter refused to start and ended {describe(status)}")
        if not re.search(r"^(postern: |\S+ \S+ (error|critical))", postern.messages, re.MULTILINE) and not (fired and first.endswith("/messages")):
            raise Wrong("the filter refused to start without a message that gives the reason")
        if self.lasts and self.may_defer() and re.search(r"error: index: ", postern.messages):
            return
        if not fired or not (MAY_REFUSE.search(first) or not first.startswith(self.place.box)):
            raise Wrong(f"the filter refused to start (status {status}) although there is a sound index")

    def clean(self):
        """Starts the filter again without a fault, and runs the commands."""
        place = self.place
        place.run("index", "verify")
        postern = Filter(place, None)
        try:
            connection = postern.connect()
            if connection is None:
                raise Wrong(f"the filter refuses the next start:\n{postern.messages}")
            deadline = time.monotonic() + 8
            with connection:
                postern.expect(connection, KNOWN[4], 250)
                postern.expect(connection, "nobody@example.com", 550)
                postern.expect(connection, "x@elsewhere.example", 554)
                while postern.ask(connection, SECOND[1]) != 250:
                    if time.monotonic() > deadline:
                        raise Wrong("the list isn't published after the next start")
                    time.sleep(0.02)
            place.run("status")
            status = postern.stop()
            if status != 0:
                raise Wrong(f"after the next start the filter ended {describe(status)}")
        except Wrong as error:
            raise Wrong(f"after a start without a fault: {error}\n{postern.messages}") from error
        finally:
            postern.kill()
        place.run("sync", "--once")
        self.check_counts(place.totals() - place.before - postern.recorded)
        # No temporary files, and no sound files that were mistaken for damaged ones.
        left = [name for name in os.listdir(place.box) if name.startswith(".") or ".damaged-" in name or name.endswith("-new")]
        if left:
            raise Wrong(f"files were left: {', '.join(left)}")

    def check_counts(self, counted):
        for outcome in ("refused", "accepted", "tempfailed"):
            recorded, found = self.recorded[outcome], counted[outcome]
            if found > recorded:
                raise Wrong(f"{recorded} recipients were {outcome}, {found} are counted")
            if found < recorded and not self.lasts:
                raise Wrong(f"{recorded} recipients were {outcome}, {found} are counted")


def injections(counts, lasting):
    """Yields every fault that these counts of calls allow."""
    for (kind, name), count in sorted(counts.items()):
        for number in range(1, count + 1):
            for error in ERRORS[kind]:
                yield f"{kind}@{name}:{number}:{error}"
                if lasting and error != "SHORT":
                    yield f"{kind}@{name}:{number}+:{error}"


def choose(everything, sample, seed):
    """Returns a sample of all faults: the same share of each kind of call on each file, at least one of each."""
    source = random.Random(seed)
    groups = {}
    for fault in everything:
        groups.setdefault(fault.rsplit(":", 2)[0], []).append(fault)
    share = min(1, sample / max(1, len(everything)))
    chosen = []
    for group in groups.values():
        chosen += source.sample(group, min(len(group), max(1, round(share * len(group)))))
    source.shuffle(chosen)
    return chosen


def main():
    parser = argparse.ArgumentParser(prog="contrib/faults", add_help=False)
    parser.add_argument("--program", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--everywhere", action="store_true")
    parser.add_argument("--count", action="store_true")
    options = parser.parse_args()
    jobs = options.jobs or 2 * (os.cpu_count() or 1)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    started = time.monotonic()

    first = Place(os.path.join(options.folder, "0"), options)
    try:
        first.prepare()
        counting = Run(first, None)
        counting.whole()
    except Wrong as error:
        print(f"faults: a run without a fault fails: {error}", file=sys.stderr)
        return 1
    by_kind = Counter()
    for (kind, name), count in counting.counts.items():
        by_kind[kind] += count
    print("Calls of a run: " + ", ".join(f"{count} {kind}" for kind, count in by_kind.items()), flush=True)
    if options.count:
        for (kind, name), count in sorted(counting.counts.items()):
            print(f"{count:6} {kind:9} {name}")
        return 0

    everything = list(injections(counting.counts, True))
    if options.only:
        faults = options.only
    elif options.all:
        # In random order, because faults that belong together stand together.
        faults = everything
        random.shuffle(faults)
    else:
        faults = choose(everything, options.sample, seed)
        print(f"{len(faults)} of {len(everything)} faults, chosen with --seed {seed}", flush=True)

    waiting = list(reversed(faults))
    failures, silent, made = [], [], Counter()
    lock = threading.Lock()

    def work(number):
        place = first if number == 0 else Place(os.path.join(options.folder, str(number)), options)
        if number:
            place.prepare()
        while True:
            with lock:
                if not waiting:
                    return
                fault = waiting.pop()
            run = Run(place, fault)
            try:
                run.whole()
                reason = None
            except Wrong as error:
                reason = str(error)
            except Exception as error:  # A fault of this script is a failure, too.
                reason = f"{type(error).__name__}: {error}"
            with lock:
                made[run.fired > 0] += 1
                if reason:
                    failures.append(fault)
                    where = f" ({run.fired} calls failed, the first on {os.path.relpath(run.first, place.box) if run.first else 'nothing'})"
                    text = "\n".join(f"    {line}" for line in run.messages.splitlines() if "User unknown" not in line and "Relay access denied" not in line)
                    again = "contrib/faults " + ("--everywhere " if options.everywhere else "") + f"--only '{fault}'"
                    print(f"\n{fault}{where}: {reason}\n  messages of the filter:\n{text}\n  repeat it: {again}", flush=True)
                elif sum(made.values()) % 100 == 0:
                    print(f"  {round(time.monotonic() - started)} s: {sum(made.values())} runs, {len(failures)} failed", flush=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(min(jobs, len(faults)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = round(time.monotonic() - started)
    missed = f" ({made[False]} more runs ended before their fault)" if made[False] else ""
    if failures:
        print(f"\n{made[True]} faults{missed} in {seconds} s, {len(failures)} runs failed:")
        for fault in failures:
            print(f"  {fault}")
        return 1
    print(f"{made[True]} faults{missed} in {seconds} s, all runs succeeded")
    return 0


sys.exit(main())
