"""Faults of the files that the example of a sync reads and writes."""

import os

import pytest


@pytest.mark.parametrize(
    ("csv", "state", "want"),
    [
        pytest.param("name\nAnn\n", "", "no column 'chat_id'", id="no such column"),
        pytest.param("", "", "no column 'chat_id'", id="an empty file"),
        pytest.param(
            'chat_id,name\n15551230001,"Ann\n15551230002,Bob\n',
            "",
            "contacts.csv, line 2: ",
            id="a quote is not closed",
        ),
        pytest.param('"chat_id\n15551230001\n', "", "contacts.csv, line 1: ", id="a quote of the header is not closed"),
        pytest.param("chat_id\n1\n\ud8ff\n", "", "contacts.csv, line 3: not UTF-8", id="not UTF-8"),
        pytest.param(
            "chat_id\n15551230001\n", '{"1', "contacts.csv.state.json is not a state file", id="a damaged state"
        ),
        # It ends the stream, because no further contact could be looked up.
        pytest.param("chat_id\n15551230015\n", "", "INSTANCE_NOT_CONNECTED", id="not connected"),
    ],
)
def test_a_sync_gives_up_where_it_cannot_go_on(address, syncing, csv, state, want):
    sync = syncing([])
    (sync.directory / "contacts.csv").write_bytes(csv.encode(errors="surrogatepass"))
    if state:
        sync.state_path.write_text(state)
    said = sync.run(address, exit_code=2)
    assert want in said and "Traceback" not in said
    assert sync.changes() == []


@pytest.mark.parametrize(
    "state",
    [
        "null",
        "[]",
        '"x"',
        '{"15551230001":null}',
        '{"15551230001":{}}',
        '{"15551230001":[]}',
        '{"15551230001":{"outcome":"PRESENT","fingerprint":5}}',
        '{"15551230001":{"outcome":null}}',
        "{} {}",
        "",
        '{"version":1,"instance":"","contacts":{}}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_state_of_another_form_ends_the_sync(address, syncing, state):
    sync = syncing(["15551230001"])
    sync.state_path.write_text(state)
    said = sync.run(address, exit_code=2)
    assert said.startswith("contacts.csv.state.json is not a state file of sync_contacts: ")
    assert "--state" in said and said.count("\n") == 1
    assert (sync.state_path.read_text(), sync.changes()) == (state, [])


@pytest.mark.parametrize("out", ["/dev/null", "fifo", "pictures"])
def test_changes_go_to_a_regular_file_only(address, syncing, out):
    sync = syncing(["15551230001"], "--out", out)
    os.mkfifo(sync.directory / "fifo")
    (sync.directory / "pictures").mkdir()
    said = sync.run(address, exit_code=2)
    assert said == f"{out} is not a regular file; name another one with --out\n"
    assert sync.state() == {}
