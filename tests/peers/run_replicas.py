"""Three replicas on one Valkey and one sandbox, until Ctrl-C. `make run-replicas` runs it.

Each replica gets a call for the same contact, which none of them knows, at the same moment.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import PATIENCE, program
from support.replicas import Replicas
from support.valkey import Valkey

CONTACT = "15551230001"


def main():
    # SIGTERM, too, ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="replicas-"))
    started = []
    try:
        started.append(Valkey(directory / "valkey"))
        started.append(Replicas(directory / "replicas", started[0], flags=()))
        show(*started)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print("\nstopped")
    finally:
        # A second Ctrl-C must not leave a process behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for thing in reversed(started):
            thing.close()
        shutil.rmtree(directory)


def show(valkey, replicas):
    print(f"Valkey listens on {valkey.address}, pid {valkey.process.pid}")
    for number, replica in enumerate(replicas, 1):
        print(f"replica {number} listens on {replica.address}, metrics on http://{replica.admin}/metrics")
    print(f"\nEach replica is asked for {CONTACT}, which none of them knows:")
    command = [program("HYPERSENDER_GRPC_BIN"), "get", CONTACT, "--output", "json"]
    begin = time.monotonic()
    calls = [
        subprocess.Popen([*command, "--address", replica.address], stdout=subprocess.PIPE, env={})
        for replica in replicas
    ]
    for number, call in enumerate(calls, 1):
        output, _ = call.communicate(timeout=PATIENCE)
        if call.returncode != 0:
            sys.exit(f"the call of replica {number} failed")
        answer = json.loads(output)
        print(f"replica {number}: {answer['cacheInfo']['status']} after {time.monotonic() - begin:.2f} s")
    print(f"requests to Hypersender: {replicas.asked([CONTACT])}")
    first = replicas[0].address
    print(f"\nAsk for another contact:  cargo run --locked -- get 15551230004 --address {first}")
    print(f"Count the requests:       curl {replicas.sandbox.sandbox}/_sandbox/calls")
    print(f"Take the store away:      kill {valkey.process.pid}")
    print("Ctrl-C ends all of them.", flush=True)


main()
