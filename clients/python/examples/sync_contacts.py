"""Keep the profile pictures of the contacts in a CSV file up to date.

    pip install '.[examples]'
    python examples/sync_contacts.py --pictures pictures contacts.csv

It appends a line of JSON to --out for each contact whose picture, or whose reason for having none, is not
what the last run found. Run it as often as you like, one at a time: a run that was killed loses no change,
and the next one continues. Files of the Go example sync_contacts can be used here, and the reverse.

The exit code is 1 when contacts or pictures failed for now, and 2 when the run did not come to its end.
"""

import argparse
import csv
import http.client
import io
import ipaddress
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from hypersender.contact import ContactClient, ContactError, Outcome, Progress, Result

BYTES_MAX = 5 << 20

# The reasons that say something about the contact. Every other error says something about the service or
# Hypersender, and is no outcome.
ABOUT_CONTACT = {"CHAT_ID_INVALID", "NOT_ON_WHATSAPP", "UPSTREAM_NOT_FOUND", "UPSTREAM_REJECTED_REQUEST"}

# So many pictures are saved at once. While they are, the stream is not read, which the server allows for
# 5 minutes.
PICTURES_MAX = 100
DOWNLOADS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the profile pictures of the contacts in a CSV file up to date.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="server to call, host:port (default: %(default)s)")
    parser.add_argument("--instance", default="", help="instance to ask, a UUID (default: the server's)")
    parser.add_argument("--column", default="chat_id", help="column with the chat ids (default: %(default)s)")
    out = Path("changes.ndjson")
    parser.add_argument(
        "--out", type=Path, default=out, help="regular file to which changes are appended (default: %(default)s)"
    )
    parser.add_argument("--pictures", type=Path, help="directory for the pictures (default: they are not saved)")
    parser.add_argument("--state", type=Path, help="results of the last run (default: CSV.state.json)")
    parser.add_argument("csv", type=Path, metavar="CSV")
    flags = parser.parse_args()

    try:
        chat_ids = read_column(flags.csv, flags.column)
        store = Store(flags.state or Path(f"{flags.csv}.state.json"), flags.out, flags.pictures)
        with ContactClient(flags.server, instance=flags.instance) as client:
            update(client, chat_ids, store)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except ContactError as error:
        print(f"{error}; the next run continues", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the next run continues", file=sys.stderr)
        return 2
    if store.failed:
        print(f"{store.failed} contacts failed for now; the next run asks for them again", file=sys.stderr)
    return 1 if store.failed else 0


def update(client: ContactClient, chat_ids: list[str], store: "Store") -> None:
    """Ask for every contact once and store the results; after an error, those that arrived before it."""

    def on_broken(error: ContactError, wait: float) -> None:
        tqdm.write(f"the stream broke ({error}), again in {wait:.1f} s", file=sys.stderr)

    def on_progress(progress: Progress) -> None:
        pause = progress.paused_until
        bar.set_postfix_str(f"paused until {pause.astimezone():%H:%M:%S}" if pause else "")
        store.commit_if_due()

    # The bar is drawn on standard error, and only when that is a terminal.
    with tqdm(total=len(chat_ids), unit=" contacts", disable=None) as bar:
        try:
            for result in client.stream_profile_pictures(
                chat_ids, known_fingerprints=store.known(chat_ids), on_progress=on_progress, on_broken=on_broken
            ):
                store.add(result)
                bar.update()
                store.commit_if_due()
        finally:
            store.commit()


def read_column(path: Path, column: str) -> list[str]:
    """Return the chat ids of a CSV file with a header, each once, in the order of the file."""
    try:
        # Spreadsheets write a byte order mark, which would become a part of the first name.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8") from error
    # A quote that is not closed takes all later rows into its cell. Only a strict reader refuses it.
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    chat_ids: dict[str, None] = {}
    line = 1
    try:
        if column not in (rows.fieldnames or ()):
            raise ValueError(f"{path} has no column {column!r}, but {rows.fieldnames or []}; see --column")
        line = rows.line_num + 1
        for row in rows:
            chat_ids[(row[column] or "").strip()] = None
            line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: {error}") from error
    return [chat_id for chat_id in chat_ids if chat_id]


def read_state(path: Path) -> dict[str, dict[str, str]]:
    """Read a state file of this example or of the one in Go. A missing file is an empty state.

    Any other file is an error, because the first commit would overwrite it.
    """
    try:
        state = json.loads(path.read_bytes())
        if not isinstance(state, dict) or not all(map(is_known, state.values())):
            raise ValueError("it does not hold contacts with an outcome each")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a state file of sync_contacts: {error}; "
            "name another one with --state, or remove this one: everything is then reported again"
        ) from error
    return state


def is_known(entry: object) -> bool:
    """Whether an entry of a state file is one of those that Store describes."""
    if not isinstance(entry, dict) or not entry.get("outcome"):
        return False
    return all(isinstance(entry.get(key, ""), str) for key in ("outcome", "fingerprint", "file"))


class Store:
    """Holds the state of the last run and writes what this one finds.

    The state has for each chat id of the CSV: `outcome`, which is PRESENT, NOT_AVAILABLE, or the reason of an
    error that concerns the contact; `fingerprint`; and `file`, the name of the saved picture.
    """

    def __init__(self, state_path: Path, out_path: Path, directory: Path | None):
        self.state_path, self.directory = state_path, directory
        self.state = read_state(state_path)
        self.out = open_out(out_path)
        if directory:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.results: list[Result] = []
        self.committed = time.monotonic()
        # Contacts and pictures that failed for now.
        self.failed = 0

    def known(self, chat_ids: list[str]) -> dict[str, str]:
        """The fingerprints of the pictures that need no link: they are, where pictures are saved, there."""
        found = ((chat_id, self.state.get(chat_id, {})) for chat_id in chat_ids)
        return {
            chat_id: before["fingerprint"]
            for chat_id, before in found
            if "fingerprint" in before
            and (not self.directory or ("file" in before and (self.directory / before["file"]).exists()))
        }

    def add(self, result: Result) -> None:
        """Take a result that the next commit writes. An unchanged picture needs nothing."""
        if result.outcome is Outcome.UNCHANGED:
            return
        if describe(result):
            self.results.append(result)
        else:
            self.fail(result, result.error)

    def fail(self, result: Result, reason: object) -> None:
        self.failed += 1
        tqdm.write(f"{result.chat_id}: {reason}", file=sys.stderr)

    def commit_if_due(self) -> None:
        if time.monotonic() - self.committed > 1 or (self.directory and len(self.results) >= PICTURES_MAX):
            self.commit()

    def commit(self) -> None:
        """Save the pictures, then the changes, then the state.

        A run that is killed in between reports the same changes again; it never loses one.
        """
        self.committed = time.monotonic()
        if not self.results:
            return
        results, self.results = self.results, []
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            saved = list(pool.map(self.save_picture, results))
        for result, (file, failure) in zip(results, saved, strict=True):
            if failure:
                self.fail(result, f"the picture was not saved: {failure}")
            found = describe(result)
            before = self.state.get(result.chat_id, {})
            self.state[result.chat_id] = found | ({"file": file} if file else {})
            if found != {key: value for key, value in before.items() if key != "file"}:
                line = {"chat_id": result.chat_id} | self.state[result.chat_id]
                self.out.write(json.dumps(line).encode() + b"\n")
        self.out.flush()
        os.fsync(self.out.fileno())
        replace(self.state_path, json.dumps(self.state).encode(), 0o600)

    def save_picture(self, result: Result) -> tuple[str, str]:
        """Download a picture to a file named by the contact. Return the name, or why there is none."""
        if not self.directory or not result.picture:
            return "", ""
        try:
            body = download(result.picture.url)
            name = Path(result.picture.chat_id + extension_of(body)).name
            replace(self.directory / name, body, 0o600)
        except urllib.error.HTTPError as error:
            return "", f"HTTP status {error.code}"
        except http.client.HTTPException as error:
            # Its text may contain the link, which is secret.
            return "", type(error).__name__
        except (OSError, ValueError) as error:
            return "", str(error)
        return name, ""


def describe(result: Result) -> dict[str, str]:
    """The outcome and the fingerprint of a result, as in the state.

    Empty for a result that says nothing about its contact.
    """
    if result.error:
        return {"outcome": result.error.reason} if result.error.reason in ABOUT_CONTACT else {}
    if result.picture:
        return {"outcome": "PRESENT", "fingerprint": result.picture.fingerprint}
    return {"outcome": "NOT_AVAILABLE"}


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead elsewhere than the link, whose host the server allows."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


OPENER = urllib.request.build_opener(NoRedirects)


def may_be_fetched(link: str) -> bool:
    """Whether a link leads by https, or to this machine, as those of the sandbox do.

    The setting --link-hosts of the server decides to which hosts links lead.
    """
    try:
        parsed = urllib.parse.urlsplit(link)
        host = parsed.hostname or ""
    except ValueError:
        return False
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return bool(host) and (parsed.scheme == "https" or (parsed.scheme == "http" and loopback))


def download(link: str) -> bytes:
    if not may_be_fetched(link):
        raise ValueError("its link is not https")
    with OPENER.open(link, timeout=10) as response:
        body: bytes = response.read(BYTES_MAX + 1)
        if len(body) > BYTES_MAX:
            raise ValueError(f"it has more than {BYTES_MAX} bytes")
        # The number of announced bytes that did not come.
        if response.length:
            raise ValueError("the connection broke")
    return body


def extension_of(body: bytes) -> str:
    """Read the type of a picture from its first bytes. The Content-Type of an answer can lie."""
    if body.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return ".webp"
    raise ValueError("it is neither JPEG nor PNG nor WebP")


def open_out(path: Path) -> BinaryIO:
    """Open the file to which changes are appended, after its last line if that is complete."""
    # Each commit flushes the changes to disk before the state refers to them. Devices and pipes fail to do
    # so, which the first commit would find only after contacts were looked up.
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; name another one with --out")
    # Its lines hold phone numbers, so that only the owner can read a new file. An existing one keeps its
    # mode.
    file = open(path, "a+b", opener=lambda path, flags: os.open(path, flags, 0o600))
    drop_torn_line(file)
    return file


def drop_torn_line(file: BinaryIO) -> None:
    """Remove the last line if a killed run did not finish it; no state refers to it.

    A line that is not one of ours is kept and ended.
    """
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - (1 << 16))
    file.seek(start)
    tail = file.read()
    end = tail.rfind(b"\n") + 1
    if end == len(tail):
        return
    if tail.startswith(b"{", end) and (end > 0 or start == 0):
        file.truncate(start + end)
    else:
        file.write(b"\n")


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that it has the old or the new content at any moment."""
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    sys.exit(main())
