"""HTTP/2 conformance by h2spec: the server passes every case that a bare hyper server passes."""

import subprocess
import xml.etree.ElementTree as xml

from support import PATIENCE, program, tool, wait_until

NO_DATA = "It waits for DATA in the answer, and a method that does not exist is answered by headers alone."
RESET = "The connection is closed with bytes unread, which the system tells by a reset; h2spec wants an orderly end."
RACE = "The answer may be on its way before the faulty frame is read, which h2spec does not reckon with."

# The cases that fail, and the reasons. A case that is a race fails in some runs only.
ALWAYS = {
    ("generic/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream"): NO_DATA,
    ("generic/2", "Sends a PRIORITY frame on half-closed (remote) stream"): NO_DATA,
}
SOMETIMES = {
    ("http2/3.5", "Sends invalid connection preface"): RESET,
    ("http2/5.1", "closed: Sends a HEADERS frame after sending RST_STREAM frame"): RACE,
    (
        "http2/5.1.2",
        "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
    ): RACE,
    (
        "http2/6.9.1",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    ): RACE,
    ("http2/8.1.2.1", "Sends a HEADERS frame that contains a pseudo-header field as trailers"): RACE,
    (
        "http2/8.1.2.6",
        'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload '
        "length",
    ): RACE,
    (
        "http2/8.1.2.6",
        'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple '
        "DATA frames payload length",
    ): RACE,
}
# A case counts as failed after this number of failures, because a busy machine may make any case hang once.
RUNS = 3


def failures(address, report):
    host, port = address.rsplit(":", 1)
    command = [tool("h2spec"), "-h", host, "-p", port, "--timeout", "2", "--junit-report", str(report)]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=5 * PATIENCE, env={}, check=False)
    cases = list(xml.parse(report).iter("testcase"))
    assert len(cases) > 100
    failed = [case for case in cases if {part.tag for part in case} & {"error", "failure"}]
    return {(case.get("package"), case.get("classname")) for case in failed}


class Bare:
    """A server that is hyper and nothing else; see bare.rs."""

    def __init__(self, log):
        with log.open("wb") as stdout:
            self.process = subprocess.Popen([program("BARE_BIN")], stdout=stdout, env={})
        self.address = wait_until("the bare server listens", lambda: log.read_text().strip())

    def close(self):
        self.process.kill()
        self.process.wait()


def test_conformance(server, started, tmp_path, figure):
    bare = started(Bare(tmp_path / "bare"))
    ours, hypers = (failures(peer.address, tmp_path / "report.xml") for peer in (server, bare))
    for name, failed in [("bare hyper", hypers), ("ours", ours)]:
        for section, case in sorted(failed):
            figure(f"{name} fails {section}: {case}")
    assert ALWAYS.keys() <= hypers, "these are said to be nothing of ours"
    beyond = ours - ALWAYS.keys() - SOMETIMES.keys()
    for _ in range(RUNS - 1):
        if beyond:
            beyond &= failures(server.address, tmp_path / "report.xml")
    assert not beyond
    # An entry of the table that no longer fails must be removed.
    assert ours >= ALWAYS.keys()
