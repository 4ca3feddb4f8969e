"""A certificate authority for one test session."""

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Writes what a policies.yaml names (`ca_file`, `client_cert`, `client_key`) and makes server contexts."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.client_cert = folder / "client.pem"
        self.client_key = folder / "client.key"
        self._ca.cert_pem.write_to_path(self.ca_file)
        client = self._ca.issue_cert("client@tidegate.test")
        client.private_key_pem.write_to_path(self.client_key)
        for part in client.cert_chain_pems:
            part.write_to_path(self.client_cert, append=True)

    def server_context(self, *names: str, client_cert_required: bool = False) -> ssl.SSLContext:
        """For a server that is called one of `names` (localhost and 127.0.0.1 when none is given)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        if client_cert_required:
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this authority."""
        return ssl.create_default_context(cafile=self.ca_file)
