"""Certificates for proxies on loopback, from an authority that only the tests trust."""

import trustme


class Certificates:
    """Files in PEM: the certificate of the authority, and a certificate for 127.0.0.1 with its key."""

    def __init__(self, directory):
        directory.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.ca, self.chain, self.key = (directory / name for name in ("ca.pem", "chain.pem", "key.pem"))
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        self.chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
