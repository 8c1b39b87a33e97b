"""TLS: the right one works, and the wrong one says what to change."""

import hashlib
import os
import subprocess
import sys

import grpc
import pytest
import trustme
from support import found

from hypersender.contact import ContactError, errors


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_server(start_server, authority, tmp_path):
    """The service with a certificate, and one caller with a token."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    (tmp_path / "cert").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    digest = hashlib.sha256(b"a-long-secret").hexdigest()
    (tmp_path / "callers").write_text(f'[callers.shop]\ntoken_sha256 = "{digest}"\ninstances = ["*"]\n')
    files = {"--tls-cert": "cert", "--tls-key": "key", "--callers-file": "callers"}
    return start_server(*[word for flag, name in files.items() for word in (flag, str(tmp_path / name))])


@pytest.fixture
def target(tls_server):
    return tls_server.address


def test_a_call_with_tls_and_a_token(target, authority, connect):
    pem = authority.cert_pem.bytes()
    for tls in (pem, grpc.ssl_channel_credentials(pem)):
        client = connect(target, tls=tls, token="a-long-secret")
        assert client.get_profile_picture("15551230001").chat_id == "15551230001"
    with pytest.raises(errors.CallerUnknown):
        client.get_profile_picture("15551230001", token="another")
    with pytest.raises(errors.CallerUnknown):
        list(client.stream_profile_pictures(["15551230001"], token="another"))


def test_the_authorities_of_the_system_are_trusted(target, authority, tmp_path):
    (tmp_path / "roots").write_bytes(authority.cert_pem.bytes())
    program = (
        "import sys; from hypersender.contact import ContactClient\n"
        "with ContactClient(sys.argv[1], tls=True, token='a-long-secret') as client:\n"
        "    print(client.get_profile_picture('15551230001').fingerprint)"
    )
    environment = os.environ | {"SSL_CERT_FILE": str(tmp_path / "roots")}
    environment.pop("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", None)
    output = subprocess.check_output([sys.executable, "-c", program, target], env=environment, cwd=tmp_path, text=True)
    assert len(output) > 5


def test_tls_to_a_server_without_it(address, serve, connect):
    for server in (address, serve(found).address):
        with pytest.raises(ContactError, match=r"does not speak TLS: .* tls=False") as raised:
            connect(server, tls=True).get_profile_picture("15551230001", timeout=20)
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE


def test_plain_text_to_a_server_with_tls(target, connect):
    with pytest.raises(ContactError, match="tls=True") as raised:
        connect(target).get_profile_picture("15551230001", timeout=20)
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_stream_without_a_result_gives_up_early_and_says_what_to_change(address, connect):
    broken = []
    with pytest.raises(ContactError, match="tls=False"):
        list(connect(address, tls=True).stream_profile_pictures(["1"], on_broken=lambda error, _: broken.append(error)))
    assert len(broken) == 2


def test_a_certificate_must_be_trusted(target, connect):
    with pytest.raises(ContactError, match="not trusted"):
        connect(target, tls=trustme.CA().cert_pem.bytes()).get_profile_picture("15551230001", timeout=20)


def test_a_certificate_must_be_for_the_name(target, authority, connect):
    options = [("grpc.default_authority", "contacts.example")]
    client = connect(target, tls=authority.cert_pem.bytes(), channel_options=options)
    with pytest.raises(ContactError, match="another name"):
        client.get_profile_picture("15551230001", timeout=20)


def test_a_client_certificate_that_is_missing(start_server, authority, tmp_path, connect):
    server = authority.issue_cert("127.0.0.1")
    (tmp_path / "ca").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "key").write_bytes(server.private_key_pem.bytes())
    (tmp_path / "cert").write_bytes(server.cert_chain_pems[0].bytes())
    files = {"--tls-cert": "cert", "--tls-key": "key", "--tls-client-ca": "ca"}
    target = start_server(*[word for flag, name in files.items() for word in (flag, str(tmp_path / name))]).address
    pem = authority.cert_pem.bytes()
    with pytest.raises(ContactError, match="asks for a client certificate"):
        connect(target, tls=pem).get_profile_picture("15551230001", timeout=20)
    own = authority.issue_cert("shop.internal")
    credentials = grpc.ssl_channel_credentials(pem, own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    assert connect(target, tls=credentials).get_profile_picture("15551230001")


def test_no_connection_is_no_fault_of_tls(connect, serve):
    server = serve(found)
    server.stop()
    for tls in (True, False):
        with pytest.raises(ContactError) as raised:
            connect(server.address, tls=tls).get_profile_picture("15551230001")
        assert "tls" not in raised.value.message.partition("(")[0].lower()
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE
